"""
Runs an exercise's checks against a learner's code, isolated from everything else.

Two processes, both confined: `solver.py` runs the learner's code; `checker.py` runs the checks, which call the code
through a pipe. So results are decided where none of the learner's code runs. Whatever the code does ends in a Report;
this process only waits, for a bounded time, for a bounded text. docs/howto/check-submissions.md lists what is allowed.
"""

import ast
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from django.conf import settings

from jiki.sandbox import folders

PROGRAMS = Path(__file__).parent
REPORT_LENGTH = 1_000_000  # bytes
MESSAGE_LENGTH = 2_000  # characters
LAST_MOMENT = 0.5  # seconds that code without further answers has to exit, so that its exit code can be reported


@dataclass(frozen=True)
class Limits:
    """The limits of a learner's code, from `settings.SUBMISSION_LIMITS`."""

    cpu: int = 2  # seconds of CPU time
    wall: float = 10.0  # seconds in total
    memory: int = 256  # megabytes
    files: int = 64  # open at a time


@dataclass(frozen=True)
class Result:
    """The result of one check."""

    name: str
    passed: bool
    message: str = ""


@dataclass(frozen=True)
class Report:
    """The results of all checks; `message` is the reason if none could run."""

    results: list[Result] = field(default_factory=list)
    message: str = ""

    @property
    def passed(self) -> bool:
        return bool(self.results) and all(result.passed for result in self.results)


class SandboxError(Exception):
    """Raised when the code cannot be checked for reasons outside of it: a kernel too old, a machine too busy."""


class BrokenChecksError(SandboxError):
    """Raised when an exercise's checks cannot run against any code."""


def check(files: Mapping[str, str], checks: str) -> Report:
    """
    Check code: `files` has the files' contents by name, `solution.py` among them; `checks` is the exercise's code.

    Returns soon after `Limits.wall` seconds at the latest. Raises SandboxError.
    """
    limits = Limits(**settings.SUBMISSION_LIMITS)
    with folders.own_folder() as folder:
        for name, content in files.items():
            if Path(name).name != name:
                raise SandboxError(f"Not a plain file name: {name!r}. Rename the file.")
            try:
                (folder / name).write_text(content, encoding="utf-8")
            except (OSError, ValueError) as error:  # for example a name too long, or a text that is not UTF-8
                raise SandboxError(f"The file {name!r} cannot be written: {error}. Rename or correct it.") from error
        with _processes(str(folder), limits) as (solver, checker):
            messages, in_time = _talk(checker, checks, limits)
            if messages and messages[-1] == ("ended",):
                with suppress(subprocess.TimeoutExpired):
                    solver.wait(LAST_MOMENT)
            return _report(messages, in_time, solver.poll(), checker, limits)


@contextmanager
def _processes(folder: str, limits: Limits) -> Iterator[tuple["subprocess.Popen[bytes]", "subprocess.Popen[bytes]"]]:
    """Start both programs; at the end kill their process groups, after the solver had time to exit by itself."""
    started: list[subprocess.Popen[bytes]] = []
    (asked, asking), (answered, answering) = os.pipe(), os.pipe()
    try:
        try:
            started.append(_start("solver", limits, cwd=folder, stdin=asked, stdout=answering))
            ends = {"pass_fds": (asking, answered), "stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            started.append(_start("checker", limits, asking, answered, cwd="/", **ends))
        finally:
            for end in (asked, asking, answered, answering):
                os.close(end)
        yield started[0], started[1]
    finally:
        try:
            with suppress(subprocess.TimeoutExpired):
                for solver in started[:1]:
                    solver.terminate()
                    solver.wait(LAST_MOMENT)  # so that it can wait for its child processes
        finally:
            _kill(started)


def _kill(started: list["subprocess.Popen[bytes]"]) -> None:
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()


def _start(program: str, limits: Limits, *arguments: int, **options: Any) -> "subprocess.Popen[bytes]":
    # The programs limit and confine themselves: code between fork and exec is not safe in a process with threads.
    given = (
        os.getpid(),
        settings.SUBMISSION_SANDBOX,
        limits.cpu,
        limits.memory << 20,
        limits.files,
        int(limits.wall) + 2,
        *arguments,
    )
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", str(PROGRAMS / f"{program}.py"), *map(str, given)],
        stderr=subprocess.DEVNULL,
        env={},
        start_new_session=True,
        bufsize=0,
        **options,
    )


def _talk(checker: "subprocess.Popen[bytes]", checks: str, limits: Limits) -> tuple[list[tuple[Any, ...]], bool]:
    """Return the checker's messages until it ends or the time is over, and whether it ended in time."""
    assert checker.stdin and checker.stdout  # noqa: S101
    with suppress(BrokenPipeError):
        checker.stdin.write(checks.encode())
        checker.stdin.close()
    text, in_time = _read(checker.stdout, time.monotonic() + limits.wall)
    return [ast.literal_eval(line.decode()) for line in text.splitlines(keepends=True) if line.endswith(b"\n")], in_time


def _read(stream: IO[bytes], deadline: float) -> tuple[bytes, bool]:
    text = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0 and len(text) < REPORT_LENGTH:
            if selector.select(min(left, 0.5)):  # an interrupt of the job is noticed between two selects
                more = stream.read(65_536)
                if not more:
                    return text, True
                text += more
    return text, False


def _report(
    messages: list[tuple[Any, ...]], in_time: bool, code: int | None, checker: "subprocess.Popen[bytes]", limits: Limits
) -> Report:
    if not messages:
        raise SandboxError(f"The checks did not start{'' if in_time else ' in time'} (exit code {checker.poll()}).")
    (kind, about), *rest = messages[0], *messages[1:]
    if kind == "broken":
        raise BrokenChecksError(f"The exercise's checks are broken: {about}. Mend them in the admin.")
    if kind == "unconfined":
        raise SandboxError(
            f"The kernel cannot confine a learner's code: {about}. Set SUBMISSION_SANDBOX to allow that."
        )
    results: list[Result] = []
    for state, *message in rest:
        if state == "unusable":
            return Report(message=_text(message[0]))
        if state == "ended":
            break
        results.append(Result(_text(about[len(results)]), state == "passed", _text(message[0])))
    if len(results) < len(about):
        why = _why(code, limits) if in_time else f"It took longer than {limits.wall:g} seconds."
        results.append(Result(_text(about[len(results)]), False, why))
        results += [Result(_text(name), False, "Not run.") for name in about[len(results) :]]
    return Report(results)


def _why(code: int | None, limits: Limits) -> str:
    """Return the message on a learner's process that ended before it had answered."""
    if code is None:
        return "It closed its connection to the checks."
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"It computed for more than {limits.cpu} seconds: perhaps a loop that never ends."
    if code < 0:
        return f"It crashed ({signal.Signals(-code).name})."
    return f"It exited with code {code} before it had answered."


def _text(text: str) -> str:
    """Return the text as a database can store it, cut to MESSAGE_LENGTH."""
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")[:MESSAGE_LENGTH]
