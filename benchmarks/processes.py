"""The processes of a benchmark: workers, clients, the proxy. All end with this one, however that one ends."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from jobs.broker.embedded import dismiss, stop_with_us

ROOT = Path(__file__).resolve().parent.parent
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20
TICKS = os.sysconf("SC_CLK_TCK")  # a second


class Child:
    """One process, in a process group of its own: Ctrl-C reaches the benchmark alone, which then stops the others."""

    def __init__(
        self, command: list[str], *, env: Mapping[str, str], log: Path, folder: Path = ROOT, **popen: Any
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            popen = {"stdin": subprocess.DEVNULL, "stdout": output} | popen
            self.process = subprocess.Popen(
                command, cwd=folder, env=env, stderr=output, start_new_session=True, **popen
            )
        self._guard = stop_with_us(self.process.pid)

    def ended(self) -> bool:
        return self.process.poll() is not None

    def log_end(self, lines: int = 8) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """SIGKILL to it and all it started: the server is emptied next, nothing need be saved."""
        if self._guard.returncode is not None:
            return
        # Stopped first, so that it starts no more while its family is read.
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGSTOP)
        for process in descendants(self.process.pid):
            process.kill()
        self.process.kill()
        self.process.wait()
        dismiss(self._guard)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


class ClientError(RuntimeError):
    """Raised when a client cannot do what it was asked, with its own words."""


class Client(Child):
    """The process that enqueues for one system: `call` sends it a verb and waits for the reply."""

    def __init__(self, command: list[str], *, env: Mapping[str, str], log: Path, folder: Path = ROOT) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        super().__init__(command, env=env, log=log, folder=folder, **pipes)
        #: What it said of itself: version and python.
        self.about = self._reply()

    def call(self, verb: str, *arguments: Any) -> Any:
        """The verb's seconds, or for `probe` and `steady` how late each job started. Raises ClientError."""
        assert self.process.stdin
        try:
            self.process.stdin.write(json.dumps([verb, *arguments]) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise ClientError(f"The client is gone. {self.log_end()}") from None
        reply = self._reply()
        return reply["late"] if "late" in reply else reply["seconds"]

    def _reply(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        reply = json.loads(line) if line else {"error": self.log_end(1) or "the client ended"}
        if "error" in reply:
            self.stop()
            raise ClientError(reply["error"])
        return reply


def wait_for(condition: Any, seconds: float, what: str, *watched: Child, every: float = 0.01) -> None:
    """Wait until `condition()` is true. RuntimeError when that takes longer, or one of `watched` ends meanwhile."""
    deadline = time.monotonic() + seconds
    while not condition():
        for child in watched:
            if child.ended():
                raise RuntimeError(f"The worker ended with code {child.process.returncode}:\n{child.log_end()}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"Not within {seconds:.0f} s: {what}.")
        time.sleep(every)


@dataclass(frozen=True)
class Process:
    """A process as /proc tells of it; with its start, so that no later process of the same id is taken for it."""

    pid: int
    parent: int = field(compare=False)
    started: int
    resident_mb: float = field(compare=False)
    #: Of processor time, with that of its children which have ended.
    cpu_seconds: float = field(compare=False)

    @classmethod
    def read(cls, pid: int) -> "Process | None":
        try:
            # The command's name, in brackets, may hold anything.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        cpu_seconds = sum(map(int, fields[11:15])) / TICKS
        return cls(pid, int(fields[1]), int(fields[19]), int(fields[21]) * PAGE_MB, cpu_seconds)

    @property
    def private_mb(self) -> float:
        """Of its resident memory, what it shares with no other process; 0 when it has ended meanwhile."""
        try:
            rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        except OSError:
            return 0
        return sum(int(kilobytes) for kilobytes in re.findall(r"^Private_\w+:\s+(\d+) kB", rollup, re.MULTILINE)) / 1024

    def kill(self) -> None:
        if Process.read(self.pid) == self:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def descendants(root: int) -> list[Process]:
    """A process of ours and all that it and its children started. Empty where there is no /proc."""
    listed = [Process.read(int(entry.name)) for entry in Path("/proc").glob("[0-9]*")]
    known = {process.pid: process for process in listed if process}

    def belongs(process: Process) -> bool:
        return process.pid == root or (process.parent in known and belongs(known[process.parent]))

    return [process for process in known.values() if belongs(process)]


def cpu_seconds(*roots: Child) -> float:
    """The processor time that these and all they started have used; 0 where there is no /proc."""
    return sum(process.cpu_seconds for root in roots for process in descendants(root.process.pid))
