"""The processes that tests start: real workers, on the test's own database and servers."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from django.db import connection
from redis import Redis

from jobs.broker.embedded import dismiss, stop_with_us
from tests import environment, template

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT = 90  # seconds until a worker must have registered itself
STOP_TIMEOUT = 30  # seconds between SIGTERM and SIGKILL


def wait_until(look: Callable[[], object], timeout: float = 30) -> None:
    """Look every 10 ms until it is so; AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not look():
        assert time.monotonic() < deadline, f"Not so after {timeout} s."
        time.sleep(0.01)


def child_environment(**extra: str) -> dict[str, str]:
    """The environment of a child that is to see this test's database and Valkey."""
    name = Path(connection.settings_dict["NAME"]).name
    return {
        **os.environ,
        "DATABASE_URL": environment.database_url(environment.folder(), name),
        "PYTHONUNBUFFERED": "1",
        **extra,
    }


class WorkerProcess:
    """
    `manage.py rqworker` as its own process. Its output is in `log`, its RQ names in `names`.

    A template forks it, which is quick; with `fresh=True`, a new interpreter runs it. See tests/template.py.
    """

    def __init__(
        self, *queues: str, log: Path, env: dict[str, str] | None = None, fresh: bool = False, **options: object
    ) -> None:
        self.log = log
        self.names: set[str] = set()
        before = _registered()
        with log.open("wb") as output:
            start = _start_fresh if fresh else template.start
            self.process = start(["rqworker", *_arguments(options), *queues], child_environment(**(env or {})), output)
        self._guard = stop_with_us(self.process.pid)
        if not options.get("burst"):
            self._wait_until_registered(before)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        return self.log.read_text()

    def wait(self, timeout: float = START_TIMEOUT) -> int:
        """Wait for it to end by itself; returns its exit code."""
        return self.process.wait(timeout)

    def stop(self) -> int:
        """SIGTERM, SIGKILL 30 seconds later; returns its exit code."""
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        dismiss(self._guard)
        return self.process.returncode

    def kill(self) -> None:
        """SIGKILL, as the kernel does when memory runs out."""
        self.process.kill()
        self.process.wait()

    def _wait_until_registered(self, before: set[str]) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not (new := _registered() - before):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"The worker did not start:\n{self.output}")
            time.sleep(0.02)
        self.names = new


def _start_fresh(arguments: list[str], env: dict[str, str], output: IO[bytes]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def _registered() -> set[str]:
    with Redis.from_url(os.environ["REDIS_URL"], decode_responses=True, socket_timeout=None) as client:
        return {key.removeprefix("rq:worker:") for key in client.smembers("rq:workers")}


def _arguments(options: dict[str, object]) -> list[str]:
    """`burst=True, max_jobs=3` as `--burst --max-jobs=3`."""
    arguments = []
    for name, value in options.items():
        option = "--" + name.replace("_", "-")
        arguments.append(option if value is True else f"{option}={value}")
    return arguments
