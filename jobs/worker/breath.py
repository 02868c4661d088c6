"""A thread that does nothing but breathe: it tells a main thread that stands still from a lock that a job holds."""

import threading

from jobs.worker import stall
from jobs.worker.scoreboard import Board


def start(board: Board) -> None:
    """Breathe on the board every second, from a daemon thread, until the process ends."""

    def breathe() -> None:
        never = threading.Event()
        while not never.wait(stall.BREATH):
            board.breathe()

    threading.Thread(target=breathe, name="jobs-breath", daemon=True).start()
