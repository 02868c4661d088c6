"""The processes that `demo` and `dev` start: each ends with the command, however the command ends."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from django.conf import settings

from jobs.broker.embedded import dismiss, stop_with_us

STOP_TIMEOUT = 30  # seconds between SIGTERM and SIGKILL: a worker first finishes its running jobs
LOG_LINES = 12  # last lines of a process's log in an error message


class Child:
    """
    `manage.py <arguments>` as a child process, running while the context is open.

    Its output goes to `log`, or without one to this process's output. It does not receive the terminal's Ctrl-C: the
    command stops its children itself, in order.
    """

    def __init__(
        self,
        name: str,
        *arguments: str,
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.arguments = arguments
        self.log = log
        self.environment = environment or {}

    def start(self) -> None:
        """Start the process. A Ctrl-C is held back until the process is stored, so that it can be stopped."""
        with signals_held_back():
            self._start()

    def _start(self) -> None:
        output = self.log.open("ab") if self.log else None
        self.process = subprocess.Popen(
            [sys.executable, str(Path(settings.BASE_DIR, "manage.py")), *self.arguments],
            env={**os.environ, **self.environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        if output:
            output.close()
        self._guard = stop_with_us(self.process.pid)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        dismiss(self._guard)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def report(self) -> str:
        """Return the state of the process and the end of its log, for an error message."""
        state = f"ended with code {self.process.returncode}" if self.ended else "is running"
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:] if self.log else []
        log = [f"The end of {self.log}:", *(f"    {line}" for line in lines or ["(empty)"])]
        return "\n".join([f"The {self.name} process {state}.", *(log if self.log else [])])

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:  # the held-back Ctrl-C: the context was not entered, so nothing else stops it
            if hasattr(self, "process"):
                self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


@contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """Make SIGTERM and SIGHUP stop the children in order, as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Hold back SIGINT, SIGTERM and SIGHUP until the end of the block."""
    held: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda number, _: held.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def port_in_use(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False
