"""The parent's record of one child."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterable
from math import inf

from jobs import runtime
from jobs.limits import paused
from jobs.safe_logging import safe_logger
from jobs.worker.scoreboard import Board, Running

logger = safe_logger("jobs.worker")

LONGEST_ORDER = 2_048  # bytes


class Process:
    """A child, from its parent's side: its name, its board, the parent's end of the control socket, and its fate."""

    def __init__(self, name: str, number: int, board: Board) -> None:
        self.name, self.number, self.board = name, number, board
        self.born, self.started_at = runtime.now(), time.monotonic()
        self.pid = 0
        self.control: socket.socket | None = None  # the parent's end; the child stops when it closes
        self.stopped_at: float | None = None  # since when it is SIGSTOPped (monotonic seconds)
        self.leaving_since: float | None = None  # since when it has been ending within limits of its own
        self.has_successor = False
        self.ended_properly = False
        self.paused = set(paused.commands)  # the paused commands that the child knows of
        self._suspects: list[str] | None = None  # executions, once the parent has killed it
        self._output = b""

    @property
    def is_killed(self) -> bool:
        """Whether the parent has killed it. It may not be gone yet."""
        return self._suspects is not None

    def files(self) -> list[int]:
        """Return the files to wait for: call `hear` when one is readable."""
        return [] if self.control is None else [self.control.fileno()]

    def hear(self) -> None:
        """Read what the child has sent: that the board has changed, or why it fails. Never blocks."""
        while self.control is not None:
            try:
                received = self.control.recv(65_536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                received = b""
            if not received:
                return self.hang_up()
            self._output = (self._output + received)[-65_536:]

    def last_words(self) -> str:
        """Return the last line that a failed child has sent; "" from one that was killed."""
        self.hear()
        return self._output.decode(errors="replace").strip().rpartition("\n")[2]

    def hang_up(self) -> None:
        """Close the parent's end of the control socket."""
        if self.control is not None:
            self.control.close()
            self.control = None

    def send(self, *words: str) -> None:
        """
        Send an order to the child, as a line of JSON. OSError if the child is gone or does not read; ValueError for an
        order that is too long, TypeError for words that are not text.
        """
        if self.control is None:
            raise BrokenPipeError
        if not all(isinstance(word, str) for word in words):
            raise TypeError(words)
        line = json.dumps(words).encode() + b"\n"
        if len(line) > LONGEST_ORDER:
            raise ValueError(f"an order of {len(line)} bytes")
        self.control.send(line, socket.MSG_DONTWAIT)  # a short one is sent as a whole, or not at all

    def kill(self, suspects: Iterable[str] = ()) -> None:
        """Send SIGKILL. Of the child's running executions, only `suspects` are suspected as the cause."""
        if self._suspects is None:
            self._suspects = list(suspects)
        os.kill(self.pid, signal.SIGKILL)

    def suspects(self) -> list[str]:
        """
        Return the executions of a child that is gone that count towards poison: those at work if it died by itself,
        none if it ended properly, those given to `kill` if the parent killed it.
        """
        if self._suspects is not None:
            return self._suspects
        return [] if self.ended_properly else [job.execution for job in self.board.at_work()]

    def overdue(self, now: float, limit: float) -> list[Running]:
        """Return the running executions whose deadline was more than `limit` seconds ago."""
        return [job for job in self.board.running() if job.deadline + limit < now]

    def leaves(self, now: float) -> float | None:
        """Return for how many seconds it has been stopping; None if it does not stop."""
        if self.board.minded() != inf:
            return None
        self.leaving_since = self.leaving_since or now
        return now - self.leaving_since
