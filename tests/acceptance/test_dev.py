"""`make run`: what it starts, says and stops."""

import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.contrib.auth import authenticate
from django.core.management import call_command
from django.core.management.base import CommandError
from watchfiles import Change

from jiki.management.commands import dev
from jiki.management.commands._processes import free_port
from jobs.broker import embedded
from jobs.broker.embedded import EmbeddedValkey
from tests.acceptance.programs import ROOT, Program, product_environment
from tests.processes import wait_until
from tests.servers import Valkey

ADMIN = "admin@jiki.example"


@pytest.fixture
def environment(tmp_path: Path, valkey: Valkey) -> dict[str, str]:
    """A developer with a database and a Redis of her own: nothing in the checkout's `var` is touched."""
    return product_environment(
        DATABASE_URL=f"sqlite:///{tmp_path}/dev.sqlite3",
        REDIS_URL=valkey.url,
        EMAIL_URL=f"filemail:///{tmp_path}/mail",
    )


@pytest.fixture
def development(settings: Any, tmp_path: Path) -> Any:
    settings.DEBUG = True
    settings.VAR = tmp_path
    settings.REDIS_URL = embedded.url(tmp_path)
    return settings


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def workers(valkey: Valkey) -> int:
    with valkey.client() as client:
        return client.scard("rq:workers")


@pytest.mark.processes
def test_it_serves_works_and_leaves_nothing_behind(environment: dict[str, str], valkey: Valkey) -> None:
    port = free_port()
    del environment["SITE_URL"]

    with Program("dev", "--port", str(port), env=environment) as first:
        login = first.read_until(ADMIN)
        wait_until(lambda: answers(port))
        wait_until(lambda: workers(valkey) == 1)
        with Program("dev", "--port", str(port), env=environment) as too_many:
            assert too_many.wait() == 1
        first.interrupt()
        code = first.wait()

    assert code == 130, first.output
    assert f"http://localhost:{port}/signup/" in first.output
    assert "Migrating the database ..." in first.output.partition(ADMIN)[0]
    assert "password " in login
    assert "Everything is stopped." in first.output
    assert f"Port {port} is in use" in too_many.output
    assert not answers(port)
    assert workers(valkey) == 0

    with Program("dev", "--port", str(port), env=environment) as again:
        login = again.read_until(ADMIN)
        again.interrupt()
        again.wait()

    assert "created earlier" in login
    assert f"changepassword {ADMIN}" in login


@pytest.mark.django_db
def test_the_password_that_it_shows_is_the_admins() -> None:
    line = dev.Command()._admin_login()

    password = line.partition("password ")[2].split()[0]
    admin = authenticate(username=ADMIN, password=password)
    assert admin is not None
    assert admin.is_superuser
    assert password not in dev.Command()._admin_login()


def test_it_is_refused_outside_development() -> None:
    with pytest.raises(CommandError, match="set DEBUG=1"):
        call_command("dev")


def test_a_taken_port_is_named(development: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(CommandError, match=f"Port {port} is in use.*make run ARGS="):
            call_command("dev", port=port)


@pytest.mark.processes
def test_a_valkey_that_runs_already_is_named(development: Any) -> None:
    with EmbeddedValkey(development.VAR), pytest.raises(CommandError, match="A Valkey already runs in"):
        call_command("dev", port=free_port())


@pytest.mark.parametrize(
    ("target", "installs"),
    [("demo", ["requirements.txt"]), ("run", ["requirements.txt", "reloader.txt"])],
)
def test_a_target_installs_what_it_needs_and_no_more(target: str, installs: list[str], tmp_path: Path) -> None:
    make = ["make", "--dry-run", target, f"VENV={tmp_path}/venv"]
    planned = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    installed = re.findall(r"pip install .* -r (\S+)", planned)
    assert [Path(name).name for name in installed] == installs
    assert planned.count('echo "Installing ') == len(installs)  # a line before each long step


class FakeChild:
    def __init__(self, ended: Iterator[bool]) -> None:
        self.log: list[str] = []
        self._ended = ended

    @property
    def ended(self) -> bool:
        return next(self._ended)

    def stop(self) -> None:
        self.log.append("stop")

    def start(self) -> None:
        self.log.append("start")

    def report(self) -> str:
        return "It ended."


def test_the_worker_starts_again_when_code_changes_and_the_end_of_the_web_server_ends_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds: list[set[tuple[Change, str]]] = [set(), {(Change.modified, "/srv/jobs/job.py")}, set(), set(), set()]
    monkeypatch.setattr(dev, "watch", lambda *paths, **options: iter(rounds))
    web = FakeChild(iter([False, False, False, False, True]))
    worker = FakeChild(iter([False, True, True]))

    with pytest.raises(CommandError, match="It ended"):
        dev.Command()._mind(worker, web)  # type: ignore[arg-type]

    assert worker.log == ["stop", "start"]
    said = capsys.readouterr()
    assert "job.py changed: the worker starts again." in said.out
    assert said.err.count("It starts again when the code changes.") == 1


@pytest.mark.parametrize(
    ("path", "restarts"),
    [
        ("/srv/jobs/job.py", True),
        ("/srv/jobs/broker/lua/push.lua", True),
        ("/srv/mailers/templates/mailers/welcome.html", True),
        ("/srv/jobs/__pycache__/job.cpython-311.pyc", False),
        ("/srv/jiki/static/jiki/site.css", False),
    ],
)
def test_what_a_worker_has_read_restarts_it(path: str, restarts: bool) -> None:
    assert dev.Sources()(Change.modified, path) is restarts
