"""Runs real workers in acceptance tests: in their own processes, on their own server, with the test's databases."""

import json
import os
import socket
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

from jobs import conf
from jobs.broker import embedded
from jobs.broker.connections import get_connection
from jobs.testing import patches

START_TIMEOUT = 20  # seconds
OVERRIDES = "JOBS_TESTING_SETTINGS"  # the environment variable with the test's settings for the worker's process


class WorkerUnderTest:
    """The worker of `run_worker`: `drain()` runs a worker process until the queues are empty."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._number = directory, 0

    def drain(self, *queues: str, timeout: float = 60) -> str:
        """
        Start a worker of these queues (default: all), wait until it has emptied them, and return its log.

        Jobs due in the future stay. Raises RuntimeError with the worker's log if it fails, or has not ended after
        `timeout` seconds.
        """
        self._number += 1
        log = self._directory / f"worker-{self._number}.log"
        with log.open("wb") as output:
            try:
                ended = subprocess.run(
                    [sys.executable, "-m", "jobs.testing.process", "--burst", "--concurrency", "2", *queues],
                    env=_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    timeout=timeout,
                )
            except subprocess.TimeoutExpired:
                raise RuntimeError(f"The worker was not through after {timeout:g} s:\n{log.read_text()}") from None
        if ended.returncode:
            raise RuntimeError(f"The worker ended with code {ended.returncode}:\n{log.read_text()}")
        return log.read_text()


@contextmanager
def run_worker() -> Iterator[WorkerUnderTest]:
    """
    Send the jobs of this block to a separate server, for real worker processes to run:

        with run_worker() as worker:
            ProcessSubmission.defer(submission.pk)
            worker.drain()

    A kit that is open is set aside meanwhile. The worker uses the project's settings, without the test's overrides, and
    the test's databases. Raises RuntimeError if it could not see what the test wrote: inside a TestCase's transaction,
    or with SQLite in memory.
    """
    _check_databases()
    with tempfile.TemporaryDirectory(prefix="jobs-") as folder:
        path = Path(folder) / "valkey.sock"
        url = f"unix://{path}"
        queues = {name: {"URL": url, "SERIALIZER": "rq.serializers.JSONSerializer"} for name in conf.queues()}
        with _server(path), patches.set_aside(), override_settings(RQ_QUEUES=queues):
            get_connection(next(iter(queues))).ping()
            yield WorkerUnderTest(Path(folder))


def _check_databases() -> None:
    for connection in connections.all():
        if connection.vendor == "sqlite" and connection.is_in_memory_db():  # type: ignore[attr-defined]
            raise RuntimeError(
                f"A worker process cannot see the database {connection.alias!r}: it is in memory. Give it a file: "
                'DATABASES[...]["TEST"] = {"NAME": ...}.'
            )
        if patches.is_test_transaction(connection):
            raise RuntimeError(
                "A worker process cannot see what a TestCase writes, since its transaction is never committed. Use "
                "TransactionTestCase, or pytest.mark.django_db(transaction=True)."
            )


@contextmanager
def _server(path: Path) -> Iterator[None]:
    program = embedded.binary("run_worker", "testing")
    server = subprocess.Popen(
        [program, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(path.parent)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    # The guard stops the server if this process is killed: then the guard's input ends.
    guard = subprocess.Popen(["/bin/sh", "-c", f"read -r _ || kill {server.pid}"], stdin=subprocess.PIPE)
    try:
        deadline = time.monotonic() + START_TIMEOUT
        while not _listens(path):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("The test's Valkey server did not start.")
            time.sleep(0.01)
        yield
    finally:
        guard.communicate(b"\n")
        server.terminate()
        server.wait()


def _listens(path: Path) -> bool:
    # The file alone says too little: it is there from `bind` on, and until `listen` a connection is refused.
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path)) == 0


def _environment() -> dict[str, str]:
    databases = {connection.alias: str(connection.settings_dict["NAME"]) for connection in connections.all()}
    module: Any = os.environ.get("DJANGO_SETTINGS_MODULE") or getattr(settings, "SETTINGS_MODULE", "")
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": str(module),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        OVERRIDES: json.dumps({"queues": settings.RQ_QUEUES, "databases": databases}),
    }
