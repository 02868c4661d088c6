"""What every test may ask for. The servers run in the processes that run tests, and nowhere else."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.test import TransactionTestCase

from jobs.broker import connections
from jobs.broker.connections import CLIENT_OPTIONS
from jobs.record import registry
from tests import environment
from tests.processes import WorkerProcess
from tests.servers import MariaDB, Postgres, Valkey
from tests.tables import Tables

pytest_plugins = ["jobs.testing"]

OWN_PATIENCE = dict(CLIENT_OPTIONS)  # of projects; the tests' is longer


def pytest_configure() -> None:
    """
    In a script's background Ctrl-C is ignored, under nohup SIGHUP, and the processes that we start would inherit that.
    And on a busy machine a server may stand still for a second.
    """
    CLIENT_OPTIONS.update(socket_timeout=10, socket_connect_timeout=10)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Valkey]:
    with Valkey(environment.folder() / "valkey") as server:
        yield server


@pytest.fixture(scope="session")
def database_server() -> Iterator[None]:
    servers = {"postgres": Postgres, "mariadb": MariaDB}
    name = environment.database()
    if name not in servers:
        yield
        return
    server = servers[name](environment.folder() / name)
    try:
        server.start()
        yield
    finally:
        server.stop()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(database_server: None) -> None:
    """pytest-django's hook before it makes the test database; each process has a server of its own."""


@pytest.fixture(scope="session")
def django_db_keepdb() -> bool:
    """The test database goes with its server or folder: dropping it would only wait for open connections."""
    return True


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> Iterator[None]:
    """As in pytest-django, but what a test has committed is deleted in our own way: see tests/tables.py."""
    tables: dict[str, Tables] = {}
    set_up = TransactionTestCase._fixture_setup.__func__

    def remember(kind: Any) -> None:
        for alias in kind._databases_names(include_mirrors=False):
            if alias not in tables:
                tables[alias] = Tables(alias)
        set_up(kind)

    def restore(case: Any) -> None:
        for alias in case._databases_names(include_mirrors=False):
            tables[alias].restore()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_setup", classmethod(remember))
        patch.setattr(TransactionTestCase, "_fixture_teardown", restore)
        yield


@pytest.fixture(autouse=True)
def clean_slate(valkey_server: Valkey) -> Iterator[None]:
    """
    Nothing of the last test is left in Valkey or in the cache (rate limits, for instance). A test that gives an RQ
    worker the shared client fails: the worker raises its time-outs to minutes, and a later test would hang.
    """
    valkey_server.clean()
    cache.clear()
    yield
    for client in connections._by_server.values():
        assert client.connection_pool.connection_kwargs["socket_timeout"] == CLIENT_OPTIONS["socket_timeout"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients of this test are new ones, which wait for an answer as long as those of a project."""
    for name, seconds in OWN_PATIENCE.items():
        monkeypatch.setitem(CLIENT_OPTIONS, name, seconds)
    monkeypatch.setattr(connections, "_by_queue", {})
    monkeypatch.setattr(connections, "_by_server", {})


@pytest.fixture
def valkey(valkey_server: Valkey) -> Valkey:
    """The server of this test process: `url`, `client()`, `restart()`, `kill()`, `start()`."""
    return valkey_server


@pytest.fixture
def own_commands() -> Iterator[None]:
    """The commands that the test defines, or takes away, are as before after it."""
    commands, conflicts = registry.all_commands(), registry.conflicts()
    yield
    registry.all_commands()  # what is still waiting for its name has it now
    registry._commands.clear()
    registry._commands.update(commands)
    registry._conflicts[:] = conflicts


@pytest.fixture
def worker_process(transactional_db: None, valkey: Valkey, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """
    Start a real worker: `worker_process("critical", "mailers", burst=True, env={...})`.

    It has registered itself when the call returns (a burst one may be through already), and is
    stopped at the end of the test.
    """
    with contextlib.ExitStack() as workers:

        def start(*queues: str, **options: object) -> WorkerProcess:
            log = tmp_path / f"worker-{len(list(tmp_path.glob('worker-*.log')))}.log"
            worker = WorkerProcess(*queues, log=log, **options)
            workers.callback(worker.stop)
            return worker

        yield start


@pytest.fixture
def places(valkey):
    """Where each job is: `places()["<id>"] == ["queue:default"]`."""

    def look():
        found = {}
        with valkey.client() as client:
            for key in client.scan_iter("rq:*"):
                name = key.decode().removeprefix("rq:")
                kind = name.partition(":")[0]
                if kind == "queue":
                    members = client.lrange(key, 0, -1)
                elif kind in {"wip", "scheduled", "finished", "failed", "canceled", "deferred"}:
                    members = client.zrange(key, 0, -1)
                else:
                    continue
                for member in members:
                    found.setdefault(member.decode().partition(":")[0], []).append(name)
        return found

    return look
