"""
The board between a child and its parent: shared memory in which each thread writes the job that it runs.

A write costs the child a fraction of a microsecond and no system call. The parent can read the board even while a job
holds the child's interpreter lock.
"""

import mmap
import os
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

# Started, deadline (monotonic seconds; 0: idle, no limit); where execution, queue and job id end in the text; the text,
# which has nothing between them, since anything might be in one.
_SLOT = struct.Struct("ddHHH474s")
_ROOM = 474  # bytes of that text
_TIMES = struct.Struct("dd")  # how a slot begins
_HEAD = struct.Struct("qqd")  # finished, failed, working seconds
_FETCHED, _MINDED, _BREATHS, _LAG = 0, 1, 2, 3  # positions of the turns, behind the head
_TURNS = 4 * struct.calcsize("d")
_END = struct.Struct("qq")  # the pid of the process that has ended properly, and what follows it
_PLACE = struct.Struct("q")
_ALL = -1  # in the place of that: any task may be the cause of the end
PAUSABLE = 64  # queues that a worker may serve

NO_MORE, ANOTHER = 0, 1  # what follows a child that has ended properly: nothing, or its replacement


@dataclass(frozen=True, slots=True)
class Running:
    """
    The running job of a thread, or of a task: when it began, and its deadline (monotonic seconds; inf: none). A job id
    of hundreds of bytes, which plain RQ allows, is cut.
    """

    started: float
    deadline: float
    job_id: str
    execution: str
    queue: str


class Board:
    """
    One child's board. Made by the parent before it forks; each slot has one writer: its thread, or, of those behind
    the threads', the event loop for one task.
    """

    def __init__(self, threads: int, tasks: int = 0) -> None:
        self.threads, self.tasks = threads, tasks
        self._places = threads + tasks
        self._end = _HEAD.size + _TURNS
        self._retiring = self._end + _END.size
        self._pauses = self._retiring + 8
        self._working = self._pauses + PAUSABLE
        self._slots = self._working + _PLACE.size * (1 + max(1, threads) if tasks else 0)
        self._map()

    def _map(self) -> None:
        self._memory = mmap.mmap(-1, self._slots + self._places * _SLOT.size)
        self._turns = memoryview(self._memory)[_HEAD.size : self._end].cast("d")
        # By thread of the loop (0: its own; others are lent): 0, or 1 and the place of the task whose code it runs.
        self.works = memoryview(self._memory)[self._working : self._slots].cast("q")

    def detach(self) -> None:
        """Make the board private, in a process that a job has forked: no other process sees its writes from here on."""
        self._map()  # another object than the parent's and the worker's; theirs stays mapped, unused

    def start(
        self, thread: int, started: float, deadline: float, job_id: bytes, execution: bytes, queue: bytes
    ) -> None:
        """The child: this thread begins a claim."""
        text, ends = execution + queue + job_id, (len(execution), len(execution) + len(queue))
        room = min(len(text), _ROOM)
        _SLOT.pack_into(self._memory, self._slots + thread * _SLOT.size, started, deadline, *ends, room, text)

    def end(self, thread: int) -> None:
        """The child: this thread is idle again. The claim stays on the board: its outcome is still to be committed."""
        _TIMES.pack_into(self._memory, self._slots + thread * _SLOT.size, 0.0, 0.0)

    def begun(self) -> int:
        """The parent: the number of the last execution that was begun, -1 for none. Later claims are not begun."""
        last = -1
        for thread in range(self._places):
            _, _, execution, *_ = self._read(thread)
            if (number := execution.rpartition(".")[2]).isdecimal():
                last = max(last, int(number))
        return last

    def running(self, *, tasks: bool | None = None) -> list[Running]:
        """
        The parent: the running jobs; only those of tasks, or only those of threads, if `tasks` is given. A half-written
        slot names a claim that does not exist.
        """
        return self._at(range(self.threads if tasks else 0, self.threads if tasks is False else self._places))

    def _at(self, places: Iterable[int]) -> list[Running]:
        jobs = []
        for thread in places:
            started, deadline, execution, queue, job_id = self._read(thread)
            if started and execution:
                jobs.append(Running(started, deadline, job_id, execution, queue))
        return jobs

    def work(self, thread: int, place: int) -> None:
        """The child: a thread of the loop (0: its own; others are lent) runs code of the task at that place."""
        self.works[thread] = place + 1

    def blame_tasks(self) -> None:
        """The child: it ends because its event loop does not go on, and any task may be the cause."""
        self.works[0] = _ALL

    def at_work(self) -> list[Running]:
        """
        For the parent of a child that has died: return the running jobs whose code ran then. These are the jobs in
        threads, and the tasks that the loop's thread or a lent thread was working on. Without any of these, return all
        running jobs: a callback or a thread of a library may be the cause.
        """
        places = [place - 1 for place in self.works if place]
        if _ALL - 1 in places:
            return self.running(tasks=True)
        return self._at([*range(self.threads), *places]) or self.running()

    def _read(self, thread: int) -> tuple[float, float, str, str, str]:
        slot = _SLOT.unpack_from(self._memory, self._slots + thread * _SLOT.size)
        started, deadline, first, second, third, text = slot
        texts = (text[:first], text[first:second], text[second:third])
        execution, queue, job_id = (each.decode(errors="backslashreplace") for each in texts)
        return started, deadline, execution, queue, job_id

    def count(self, finished: int, failed: int, working: float) -> None:
        """The child: its finished and failed jobs since it began, and the seconds that they took."""
        _HEAD.pack_into(self._memory, 0, finished, failed, working)

    def counted(self) -> tuple[int, int, float]:
        """The parent: (finished, failed, working seconds)."""
        return _HEAD.unpack_from(self._memory, 0)

    def pause(self, queue: int, paused: bool) -> None:
        """The parent: whether the queue at this position is paused."""
        self._memory[self._pauses + queue] = paused

    def is_paused(self, queue: int) -> bool:
        """The child: whether the queue at this position is paused."""
        return bool(self._memory[self._pauses + queue])

    def turn(self) -> None:
        """The child: its fetch loop takes another turn."""
        self._turns[_FETCHED] = time.monotonic()

    def mind(self) -> None:
        """The child: its main thread has minded the others."""
        self._turns[_MINDED] = time.monotonic()
        self._turns[_BREATHS] = 0.0

    def breathe(self) -> None:
        """The child: a thread that does nothing else took its turn, so the interpreter's lock is free."""
        self._turns[_BREATHS] += 1.0

    def breaths(self) -> float:
        """The parent: how often the child has breathed since its main thread last minded the others."""
        return self._turns[_BREATHS]

    def show_lag(self, seconds: float) -> None:
        """The child: how long its event loop has kept ready tasks waiting, at most, in the last seconds."""
        self._turns[_LAG] = seconds

    def lag(self) -> float:
        """The parent: the same, read."""
        return self._turns[_LAG]

    def retire(self, follows: int) -> None:
        """The child: it claims nothing more, and ends when its running jobs have ended. `follows`: as in `mark_end`."""
        self._memory[self._retiring] = 1 + follows

    @property
    def is_retiring(self) -> bool:
        """The parent: whether the child claims nothing more, and ends with its running jobs."""
        return self._memory[self._retiring] > 0

    @property
    def wants_successor(self) -> bool:
        """The parent: whether the child retires, and another is to claim in its place."""
        return self._memory[self._retiring] == 1 + ANOTHER

    def leave(self) -> None:
        """The child: it stops, within its own time limits, and shows no more turns."""
        self._turns[_MINDED] = inf

    def mark_end(self, follows: int) -> None:
        """The child: it is about to exit properly, followed by NO_MORE or ANOTHER."""
        _END.pack_into(self._memory, self._end, os.getpid(), follows)

    def ended(self, pid: int) -> int | None:
        """The parent: what follows the child of that pid; None if the child did not end properly."""
        marked, follows = _END.unpack_from(self._memory, self._end)
        return follows if marked == pid else None

    def turned(self) -> float:
        """The parent: when the fetch loop last took a turn (monotonic seconds; 0: never yet)."""
        return self._turns[_FETCHED]

    def minded(self) -> float:
        """The parent: when the main thread last minded the others; inf: the child stops."""
        return self._turns[_MINDED]
