"""Whether a child's loops still turn, by what they show on the board."""

from math import inf

from jobs.worker.board import Board

STALLED = 20.0  # seconds without a turn of a loop that takes one every 10 at the latest
HOPELESS = 60.0  # the same, after which a child in which nothing runs is killed


def stall(board: Board, now: float, *, since: float, limit: float) -> str:
    """
    What has stood still for more than `limit` seconds, in words; "" if nothing has. `now`, and `since` when the loops
    could have begun to turn, are monotonic seconds.

    While all threads are busy nobody fetches. A job that holds the interpreter's lock keeps every thread from its turn:
    its time-out is what judges it.
    """
    running = len(board.running())
    fetch = now - max(board.turned(), since) if running < board.threads else 0.0
    main = now - max(board.minded(), since)
    if (fetch > limit and main > limit and running) or board.minded() == inf:
        return ""
    if fetch > limit:
        return f"has not looked for jobs for {fetch:.0f} s"
    return f"has not minded its threads for {main:.0f} s" if main > limit else ""
