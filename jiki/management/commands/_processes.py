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

from config.embedded import dismiss, stop_with_us

STOP_TIMEOUT = 30  # seconds between SIGTERM and SIGKILL: a worker first finishes the job in hand
LOG_LINES = 12  # of a process's log, in an error message


class Child:
    """
    `manage.py <arguments>` as a process of its own, running while the context is open.

    Its output goes to `log`, or to ours without one. It does not see the terminal's Ctrl-C: the
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
        """Start it; a Ctrl-C meanwhile waits: a process that is not known yet could not be stopped."""
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
        """What became of it and how its log ends, for whoever asks why something did not happen."""
        fate = f"ended with code {self.process.returncode}" if self.ended else "is running"
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:] if self.log else []
        log = [f"The end of {self.log}:", *(f"    {line}" for line in lines or ["(empty)"])]
        return "\n".join([f"The {self.name} process {fate}.", *(log if self.log else [])])

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:  # the Ctrl-C that waited: the context was never entered, so nobody else stops it
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
    """Let a plain `kill` and a closed terminal stop the children in order, as Ctrl-C does."""

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
    """Ctrl-C, TERM and HUP take effect when the block is over."""
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
