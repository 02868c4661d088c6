"""The embedded Valkey: where it listens, that it starts and stops, what it keeps."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from jobs.broker import embedded
from jobs.broker.embedded import EmbeddedServerError, EmbeddedValkey

pytestmark = pytest.mark.processes

STARTS_ONE_AND_WAITS = """
import pathlib, sys
from jobs.broker.embedded import EmbeddedValkey
server = EmbeddedValkey(pathlib.Path(sys.argv[1]))
server.start()
print(server.process.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path) as server:
        yield server


def connect(server: EmbeddedValkey) -> Redis:
    return Redis.from_url(server.url, decode_responses=True)


def test_it_listens_in_its_directory() -> None:
    assert embedded.socket_path(Path("/srv/jiki/var")) == Path("/srv/jiki/var/valkey.sock")


def test_it_listens_in_a_short_folder_where_the_path_would_be_too_long_for_a_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("long" * 30)

    path = embedded.socket_path(deep)

    assert len(os.fsencode(path)) <= embedded.LONGEST_SOCKET_PATH
    assert not path.is_relative_to(tmp_path)
    assert not path.parent.exists()
    assert path == embedded.socket_path(deep)
    assert path != embedded.socket_path(tmp_path / ("long" * 31))


def test_one_that_stands_still_does_not_answer_yet(server: EmbeddedValkey) -> None:
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    try:
        assert not server.answers()
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert server.answers()


@pytest.mark.parametrize("name", ["plain", "with space", "50% + #1?", "ünï", "long" * 30])
def test_its_address_works_whatever_the_directory_is_called(tmp_path: Path, name: str) -> None:
    with EmbeddedValkey(tmp_path / name) as server, connect(server) as client:
        assert client.ping()
        assert embedded.socket_path(server.directory).parent.stat().st_uid == os.getuid()
    assert not embedded.socket_path(server.directory).exists()


def test_it_listens_nowhere_else(server: EmbeddedValkey) -> None:
    with connect(server) as client:
        assert client.config_get("port") == {"port": "0"}
    assert embedded.socket_path(server.directory).stat().st_mode & 0o077 == 0


def test_it_keeps_what_it_accepted(server: EmbeddedValkey) -> None:
    with connect(server) as client:
        assert client.config_get("appendonly", "appendfsync", "maxmemory-policy") == {
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
        }
        client.set("kept", "yes")

    server.stop()
    server.start()

    with connect(server) as client:
        assert client.get("kept") == "yes"


def test_it_keeps_what_it_accepted_when_it_is_killed(server: EmbeddedValkey) -> None:
    with connect(server) as client:
        client.set("kept", "yes")
    assert server.process
    server.process.kill()
    server.process.wait()
    server.stop()

    server.start()

    with connect(server) as client:
        assert client.get("kept") == "yes"


def test_a_second_one_on_the_same_directory_is_refused(server: EmbeddedValkey) -> None:
    second = EmbeddedValkey(server.directory)

    with pytest.raises(EmbeddedServerError, match=r"already runs in .*REDIS_URL"):
        second.start()

    assert server.answers()


def test_whether_one_runs_is_known_to_others(server: EmbeddedValkey) -> None:
    other = EmbeddedValkey(server.directory)
    assert other.is_running()

    server.stop()

    assert not other.is_running()
    assert not EmbeddedValkey(server.directory / "missing").is_running()


def test_stopping_it_twice_is_no_error(server: EmbeddedValkey) -> None:
    server.stop()
    server.stop()

    assert not server.answers()


def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = EmbeddedValkey(tmp_path / ("long" * 30))
    folder = embedded.socket_path(server.directory).parent
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)

    try:
        with pytest.raises(EmbeddedServerError, match="Not a private folder of ours"):
            server.start()
    finally:
        folder.rmdir()


def test_a_server_that_cannot_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").write_text("in the way")

    with pytest.raises(EmbeddedServerError, match=r"(?s)did not start:.*append"):
        EmbeddedValkey(tmp_path).start()

    assert not EmbeddedValkey(tmp_path).is_running()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_the_process_that_started_it(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTS_ONE_AND_WAITS, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as owner:
        assert owner.stdout and owner.stdout.readline()
        owner.send_signal(number)

    deadline = time.monotonic() + 10
    while EmbeddedValkey(tmp_path).is_running():
        assert time.monotonic() < deadline
        time.sleep(0.02)
