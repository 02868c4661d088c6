"""One child as its parent sees it."""

import logging
import os
import signal
import socket
import time
from collections.abc import Iterable
from math import inf

from jobs import runtime
from jobs.worker.scoreboard import Board, Running

logger = logging.getLogger("jobs.worker")


class Process:
    """The parent's record of a child: its name, its board, its end of the control socket, and what became of it."""

    def __init__(self, name: str, number: int, board: Board) -> None:
        self.name, self.number, self.board = name, number, board
        self.born, self.started_at = runtime.now(), time.monotonic()
        self.pid = 0
        self.control: socket.socket | None = None  # ours; the child leaves when it closes
        self.stopped_at: float | None = None  # since when it is SIGSTOPped (monotonic seconds)
        self.leaving_since: float | None = None  # since when it has been ending within limits of its own
        self.has_successor = False
        self.ended_properly = False
        self._suspects: list[str] | None = None  # executions, once we have killed it
        self._said = b""

    @property
    def is_killed(self) -> bool:
        """Whether we have killed it. It may not be gone yet."""
        return self._suspects is not None

    def files(self) -> list[int]:
        """What to wait for: `hear` has something to do when one is readable."""
        return [] if self.control is None else [self.control.fileno()]

    def hear(self) -> None:
        """Read what it has sent: that the board has changed, or why it fails. Never waits."""
        while self.control is not None:
            try:
                said = self.control.recv(65_536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                said = b""
            if not said:
                return self.hang_up()
            self._said = (self._said + said)[-65_536:]

    def last_words(self) -> str:
        """The last line that a child which failed has left us; nothing from one that was killed."""
        self.hear()
        return self._said.decode(errors="replace").strip().rpartition("\n")[2]

    def hang_up(self) -> None:
        """Close our end of the control socket."""
        if self.control is not None:
            self.control.close()
            self.control = None

    def send(self, line: str) -> None:
        """Say a line to the child. OSError when it is gone."""
        if self.control is None:
            raise BrokenPipeError
        self.control.send(line.encode())

    def kill(self, suspects: Iterable[str] = ()) -> None:
        """SIGKILL. Of what runs in it, these executions are suspect of having made that necessary, and no others."""
        if self._suspects is None:
            self._suspects = list(suspects)
        os.kill(self.pid, signal.SIGKILL)

    def suspects(self) -> list[str]:
        """
        Of a child that is gone, the executions that count towards poison: all that ran when it died by itself, none
        when it ended properly, those that `kill` was told when we killed it.
        """
        if self._suspects is not None:
            return self._suspects
        return [] if self.ended_properly else [job.execution for job in self.board.running()]

    def overdue(self, now: float, limit: float) -> list[Running]:
        """What runs in it, and should have ended more than `limit` seconds ago."""
        return [job for job in self.board.running() if job.deadline + limit < now]

    def leaves(self, now: float) -> float | None:
        """For how many seconds it has been ending, within limits of its own; None when it has not been told to stop."""
        if self.board.minded() != inf:
            return None
        self.leaving_since = self.leaving_since or now
        return now - self.leaving_since
