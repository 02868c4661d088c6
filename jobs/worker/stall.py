"""Detects from the board whether a child's loops still turn."""

from math import inf

from jobs.worker.scoreboard import Board

STALLED = 20.0  # seconds without a turn of a loop that takes one at least every 10 seconds
HOPELESS = 60.0  # seconds without a turn after which a child is killed
BREATH = 1.0  # seconds between two breaths of a child


def stall(board: Board, now: float, *, since: float, limit: float) -> str:
    """
    Describe the loop that has not turned for more than `limit` seconds; "" if both turn. `now`, and `since`, from when
    on the loops could turn, are monotonic seconds.

    While all threads are busy, none fetches. A job that holds the interpreter's lock keeps every thread from its turn;
    then its time-out decides.
    """
    if board.minded() == inf:
        return ""
    running = board.running()
    fetches = len(running) < board.threads or board.tasks > 0  # an event loop has a thread that fetches for it
    fetch = now - max(board.turned(), since) if fetches and not board.is_retiring else 0.0
    main = now - max(board.minded(), since)
    if main > limit and running and not _is_free(board, limit):
        return ""
    if main > limit >= fetch or (running and main > limit):
        return f"has not minded its threads for {main:.0f} s"
    return f"has not looked for jobs for {fetch:.0f} s" if fetch > limit else ""


def is_hopeless(board: Board) -> bool:
    """
    Whether a child that has stalled is to be killed: it runs no job, or no longer minds its threads. While its main
    thread minds running jobs, they may end.
    """
    return not board.running() or _is_free(board, HOPELESS)


def _is_free(board: Board, limit: float) -> bool:
    """Whether the child has breathed for half of `limit` since its main thread's last turn."""
    return board.breaths() * BREATH > limit / 2
