"""
Whose code the thread of an event loop runs now: the board shows it, for the parent of a process that dies.

Thousands of jobs may share the process, and await. Only those whose code ran are suspect.
"""

from collections.abc import Coroutine
from typing import Any

from jobs.attempts.loop_task import LoopTask
from jobs.worker.scoreboard import Board

LOOP = 0  # the number of the loop's thread on the board; those of lent threads follow
NOBODY = -1


class AtWork:
    """`task` is the task whose step runs; None between steps, and in code of no command."""

    def __init__(self, board: Board) -> None:
        self.task: LoopTask | None = None
        self._board = board

    def note(self, task: LoopTask | None) -> None:
        """Note that the loop's thread begins a step of this task."""
        self.task = task
        # No call: it is written at each step of each task. Through the board: a fork has another memory.
        self._board.works[LOOP] = 0 if task is None else task.number + 1


class Noted(Coroutine[Any, Any, Any]):
    """A coroutine of a task, or of another one that its command has created, each step of which is noted."""

    __slots__ = ("_at_work", "_coroutine", "_task")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], task: LoopTask, at_work: AtWork) -> None:
        self._coroutine, self._task, self._at_work = coroutine, task, at_work

    def send(self, value: Any) -> Any:
        outer = self._at_work.task  # an eager task makes its first step within another one
        self._at_work.note(self._task)
        try:
            return self._coroutine.send(value)
        finally:
            self._at_work.note(outer)

    def throw(self, *error: Any) -> Any:
        outer = self._at_work.task
        self._at_work.note(self._task)
        try:
            return self._coroutine.throw(*error)
        finally:
            self._at_work.note(outer)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Any:
        return self._coroutine.__await__()

    def __getattr__(self, name: str) -> Any:  # the frame, the name: what shows a task reads them
        return getattr(self._coroutine, name)
