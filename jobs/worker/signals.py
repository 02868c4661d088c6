"""
Signals of a worker's processes: which have a meaning, which do not, and which handlers a job's processes inherit.

A signal that Python ignores (SIG_IGN) stays ignored in any program that a job executes, so none is ignored here: a
handler that does nothing has the same effect, and ends with `exec`. A process that a job forks gets the previous
handlers back.
"""

import signal
from collections.abc import Callable
from typing import Any

from jobs.safe_logging import safe_logger

logger = safe_logger("jobs.worker")

PASSED_ON = {signal.SIGTERM, signal.SIGTSTP, signal.SIGTTIN}  # by the parent
MEANINGLESS = {signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}  # their default action would end the process

HANDLED = PASSED_ON | MEANINGLESS | {signal.SIGINT, signal.SIGCHLD}

_before: dict[int, Any] = {}  # the handlers before ours


def handle(number: int, handler: Any) -> None:
    """Install a handler. ValueError outside the main thread."""
    before = signal.signal(number, handler)
    _before.setdefault(number, signal.SIG_DFL if before is None else before)


def handle_meaningless(handler: Callable[[int], object]) -> None:
    """Call `handler(number)` for MEANINGLESS signals, except those that are ignored already, as under nohup."""
    for number in MEANINGLESS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            handle(number, lambda number, _: handler(number))


def explain(number: int) -> None:
    """Log that a signal of MEANINGLESS was received, and which signals have a meaning."""
    message = "%s means nothing here: TERM or INT stops the worker, TSTP quiets it, TTIN shows its stacks"
    logger.warning(message, name_of(number))


def name_of(number: int) -> str:
    """Return a signal's name; most realtime signals have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def do_nothing(_number: int, _frame: object) -> None:
    """Handle a signal that this process need not obey."""


def restore() -> None:
    """Restore the previous handlers, in a process that a job has forked."""
    signal.set_wakeup_fd(-1)
    for number, handler in _before.items():
        signal.signal(number, handler)
