"""A thread that only breathes: by it, a main thread that hangs differs from an interpreter lock that a job holds."""

import threading

from jobs.worker import stall
from jobs.worker.scoreboard import Board


def start(board: Board) -> None:
    """Start a daemon thread that breathes on the board every second until the process ends."""

    def breathe() -> None:
        never = threading.Event()
        while not never.wait(stall.BREATH):
            board.breathe()

    threading.Thread(target=breathe, name="jobs-breath", daemon=True).start()
