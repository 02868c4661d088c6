"""`FAULT=<step>:<number>`: the worker's child is killed when it comes to that step so often, once per FAULT_MARKER."""

import errno
import mmap
import os
import random
import signal
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.db.backends.base.base import BaseDatabaseWrapper
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq import Queue

from jobs import queues, runtime
from jobs.management.commands import rqworker
from jobs.outbox import receipts
from jobs.recurring import lists
from jobs.worker import (
    child,
    children,
    connection,
    doorbell,
    ending,
    fetch,
    heartbeat,
    interruptions,
    loop_side,
    pace,
    recovery,
    rq_jobs,
    settling,
    stall,
    steps,
    threads,
    watchdog,
)


class FaultsConfig(AppConfig):
    name = "tests.faults"
    label = "faults"

    def ready(self) -> None:
        """Arm the worker when it starts, not here: then a template that has come as far as this can fork them all."""
        around(rqworker.Command, "handle", before=arm)


def arm(command: rqworker.Command, *args: Any) -> None:
    """Make the worker fail as its environment says, and shorten times."""
    step, _, number = os.environ.get("FAULT", "").partition(":")
    if step:
        (POINTS | PLAIN_POINTS | PUSHES)[step](Fault(int(number)))
    if "STRIKES" in os.environ:
        for name, point in (POINTS | DATABASE_POINTS).items():
            if name in STRUCK:
                point(Strike(name))
    if "FAILING_START" in os.environ:
        around(child.Child, "run", before=fail_at_start)
    if "SIGNAL_IN_STEP" in os.environ:
        around(fetch.Fetch, "_step", before=be_told_in_a_step)
    if "FAILING_FORKS" in os.environ:
        children.os.fork = failing(os.fork, int(os.environ["FAILING_FORKS"]))
    if "FAILING_SETTLING" in os.environ:
        settling.recover = unanswered(settling.recover, int(os.environ["FAILING_SETTLING"]))
    if "INHERITED_FOLDER" in os.environ:
        command.folder = tempfile.TemporaryDirectory()  # the parent's: it ends with that
        Path(os.environ["INHERITED_FOLDER"]).write_text(command.folder.name)
    if "QUICK_JOBS" in os.environ:
        around(pace.Pace, "__init__", after=be_quick)
        pace.Pace.judge = be_quick
    if "STALLED_MAIN" in os.environ:
        around(child.Child, "_mind", before=stand_still_in_main)
    if "STALLED_FETCH" in os.environ:
        around(fetch.Fetch, "_look", before=stand_still)
    if "CLOCK_AHEAD" in os.environ:
        time.time = lambda right=time.time, ahead=float(os.environ["CLOCK_AHEAD"]): right() + ahead
    if "CLOCK_FILE" in os.environ:
        time.time = clock_of(Path(os.environ["CLOCK_FILE"]))
    runtime.now = time.time  # it has been imported by its name
    for name, modules in TIMES.items():
        if name in os.environ:
            for module in modules:
                setattr(module, name, float(os.environ[name]))


def clock_of(path: Path) -> Callable[[], float]:
    """`time.time` where the clock may be set while the worker runs: the file has the seconds that it is ahead."""
    right = time.time
    with path.open("r+b") as file:
        ahead = mmap.mmap(file.fileno(), 8)
    return lambda: right() + struct.unpack_from("d", ahead)[0]


class Fault:
    """Strikes at its n-th call, in one process of all that share the marker."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            try:
                Path(os.environ["FAULT_MARKER"]).touch(exist_ok=False)
            except FileExistsError:
                return
            if os.environ.get("FAULT_KILLS") == "all":
                os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)


class Strike:
    """
    Kills or stops the process at some of its calls, STRIKE_RATE of them. What, where and whom is a line of the file
    STRIKES, for the test that continues what was stopped.
    """

    def __init__(self, point: str) -> None:
        self.point, self.chance = point, random.SystemRandom()  # forks must not strike alike
        self.rate = float(os.environ["STRIKE_RATE"]) / (5 if "step" in point else 1)  # a step may have no outcome

    def __call__(self) -> None:
        if self.chance.random() >= self.rate:
            return
        kind, child, parent = self.chance.choice(os.environ["STRIKE_KINDS"].split(",")), os.getpid(), os.getppid()
        with open(os.environ["STRIKES"], "a") as file:
            file.write(f"{self.point}|{kind}|{child}|{parent}\n")
        if kind != "child":
            os.kill(parent, signal.SIGSTOP if kind == "stop" else signal.SIGKILL)
        os.kill(child, signal.SIGSTOP if kind == "stop" else signal.SIGKILL)


def around(owner: Any, name: str, before: Callable[..., None] | None = None, after: Callable[..., None] | None = None):
    original = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if before:
            before(*args)
        result = original(*args, **kwargs)
        if after:
            after(*args)
        return result

    setattr(owner, name, wrapped)


def is_step(*args: Any) -> bool:
    return steps._STEP.sha in args or steps._STEP in args


# Seconds that a test may shorten, and where they are used.
TIMES = {
    "RESTART_DELAY": [children],
    "INTERRUPT_GRACE": [interruptions, children],
    "EVERY": [heartbeat],
    "GRACE": [child, children],
    "HOOKS": [ending],
    "HOPELESS": [stall],
    "PATIENCE": [doorbell, connection],
    "POISON": [recovery],
    "SILENCE": [heartbeat, recovery, lists],
    "STALLED": [stall],
    "STANDS_STILL": [watchdog, loop_side],
    "THREADS": [ending],
    "UNSEEN": [steps, children, recovery],
}


def be_told_in_a_step(*args: Any) -> None:
    """The process gets SIGTSTP, once, while its main thread holds the lock of its connection."""
    if threading.current_thread() is threading.main_thread() and os.environ.pop("SIGNAL_IN_STEP", None):
        os.kill(os.getpid(), signal.SIGTSTP)


def be_quick(judged: pace.Pace, *args: Any) -> None:
    """Judge all jobs quick: one thread leads, and sends steps ahead."""
    judged.is_short = judged.is_quick = True
    judged.batch = 4


def stand_still(*args: Any) -> None:
    """The fetch loop stops, in all threads, once the file of that name is there."""
    if os.path.exists(os.environ["STALLED_FETCH"]):
        threading.Event().wait()


def stand_still_in_main(*args: Any) -> None:
    """The main thread stops minding, once, when the file of that name is there; its successor finds it gone."""
    path = Path(os.environ["STALLED_MAIN"])
    if path.exists():
        path.unlink()
        threading.Event().wait()


def failing(fork: Callable[[], int], times: int) -> Callable[[], int]:
    """`os.fork` on a machine that has no room for another process the first few times."""
    left = [times]

    def fail_or_fork() -> int:
        if left[0]:
            left[0] -= 1
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return fork()

    return fail_or_fork


def unanswered(call: Callable[..., Any], times: int) -> Callable[..., Any]:
    """A call of the server, which does not answer the first few times."""
    left = [times]

    def fail_or_call(*args: Any, **options: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise RedisTimeoutError("Timeout reading from socket")
        return call(*args, **options)

    return fail_or_call


def fail_at_start(process: child.Child) -> None:
    """In children whose name has this in it."""
    if os.environ["FAILING_START"] in process._name:
        raise ImportError("No module named 'nowhere'")


POINTS: dict[str, Callable[[Any], None]] = {
    "before the step is sent": lambda fault: around(
        connection.Wire, "start", before=lambda *args: fault() if is_step(*args) else None
    ),
    "after the step is sent": lambda fault: around(
        connection.Wire, "send", after=lambda *args: fault() if is_step(*args) else None
    ),
    "after the step is answered": lambda fault: around(steps.Steps, "receive", after=lambda *args: fault()),
    "with a step in flight": lambda fault: around(
        fetch.Fetch, "_send_ahead", after=lambda each: fault() if each._steps.in_flight else None
    ),
    "before the answer of a step in flight": lambda fault: around(
        fetch.Fetch, "_receive", before=lambda each: fault() if each._steps.in_flight else None
    ),
    "before the attempt": lambda fault: around(threads.Board, "start", before=lambda *args: fault()),
    "on the board": lambda fault: around(threads.Board, "start", after=lambda *args: fault()),
    "after the attempt": lambda fault: around(threads.Board, "end", before=lambda *args: fault()),
    "before the outcome is handed over": lambda fault: around(steps.Commits, "add", before=lambda *args: fault()),
    "after the outcome is handed over": lambda fault: around(steps.Commits, "add", after=lambda *args: fault()),
    "before the doorbell": lambda fault: around(fetch.Doorbell, "wait", before=lambda *args: fault()),
}

# Where RQ's own code writes what a plain job ended as.
PLAIN_POINTS: dict[str, Callable[[Fault], None]] = {
    "before a success is written": lambda fault: around(
        rq_jobs.PlainRunner, "handle_job_success", before=lambda *args: fault()
    ),
    "between a success and its dependents": lambda fault: around(
        Queue, "enqueue_ready_jobs_by_queue", before=lambda *args: fault()
    ),
    "after a success is written": lambda fault: around(
        rq_jobs.PlainRunner, "handle_job_success", after=lambda *args: fault()
    ),
    "before a failure is written": lambda fault: around(
        rq_jobs.PlainRunner, "handle_job_failure", before=lambda *args: fault()
    ),
    "after a failure is written": lambda fault: around(
        rq_jobs.PlainRunner, "handle_job_failure", after=lambda *args: fault()
    ),
}

# For commands that defer others: between the commit of their transaction and that of their own outcome.
PUSHES: dict[str, Callable[[Fault], None]] = {
    "before a push": lambda fault: around(queues, "write", before=lambda *args: fault()),
    "after a push": lambda fault: around(queues, "write", after=lambda *args: fault()),
}

# In the transaction of an atomic command, and around its commit.
DATABASE_POINTS: dict[str, Callable[[Any], None]] = {
    "before the receipt": lambda fault: around(receipts, "_insert", before=lambda *args: fault()),
    "after the receipt": lambda fault: around(receipts, "_insert", after=lambda *args: fault()),
    "before the result": lambda fault: around(receipts, "_write_result", before=lambda *args: fault()),
    "before the database commit": lambda fault: around(BaseDatabaseWrapper, "commit", before=lambda *args: fault()),
    "after the database commit": lambda fault: around(BaseDatabaseWrapper, "commit", after=lambda *args: fault()),
}

# Where an atomic command is struck, from its claim to the answer of the step that commits its outcome.
STRUCK = [*DATABASE_POINTS, "before the attempt", "after the attempt", "before the outcome is handed over"]
STRUCK += ["after the outcome is handed over", "before the step is sent", "after the step is sent"]
STRUCK += ["after the step is answered"]
