"""The children of a parent: started under a registered name, replaced when they retire or die, killed if they stall."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator

from jobs.broker.times import UNSEEN
from jobs.safe_logging import safe_logger
from jobs.worker import heartbeat, life, stall
from jobs.worker.child import GRACE
from jobs.worker.interruptions import INTERRUPT_GRACE
from jobs.worker.process import Process
from jobs.worker.scoreboard import ANOTHER, Board
from jobs.worker.settings import WorkerSettings
from jobs.worker.signals import PASSED_ON, name_of

logger = safe_logger("jobs.worker")

LEAVING = 2 * GRACE + INTERRUPT_GRACE  # seconds that a child may take to end once it stops
OVERDUE = 2 * INTERRUPT_GRACE  # seconds past a job's time-out after which its process is no longer minding its threads
RESTART_DELAY = 1.0  # seconds before a child that died at once, or could not be forked, is replaced
RETIRED = 4  # retiring children beside each one that serves; if there are more, the oldest is stopped
FAILURES = 5  # children in a row that die at their start, with no job begun, after which the worker gives up


class Children:
    """
    `register(process)` is called before a fork, because nothing may be claimed under a name that is not registered. It
    returns whether it succeeded. `settle(process)` is called when a child is gone, while its claims are still in its
    name; it returns whether neither its claims nor those of a child before it were left there. `forked()` is called in
    each child, to release the parent's resources. `has_work()`: whether a burst has work left.

    A child that retires lives on beside its successor, under its own name, until its running jobs have ended.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        register: Callable[[Process], bool],
        settle: Callable[[Process], bool],
        forked: Callable[[], object],
        has_work: Callable[[], bool],
    ) -> None:
        self.failed = False  # whether the worker ends with an error
        self.are_hopeless = False  # whether it should end, because its children cannot start
        self._settings, self._register, self._settle, self._forked = settings, register, settle, forked
        self._has_work = has_work
        self._alive: list[Process] = []
        self._to_start = [(0.0, number) for number in range(settings.processes)]  # time and number
        self._stopping = self._is_quiet = False
        self._owed: set[int] = set()  # numbers under which another was alive when a child left work behind
        self._failures = [0] * settings.processes  # in a row, by number

    def __iter__(self) -> Iterator[Process]:
        return iter(list(self._alive))

    @property
    def are_gone(self) -> bool:
        """Whether no child lives, and none is to be started."""
        return not self._alive and (self._stopping or not self._to_start)

    def next_start(self) -> float:
        """Return when the next child is due, in monotonic seconds."""
        return min((at for at, _ in self._to_start), default=float("inf"))

    def start_due(self, *, blocks: bool) -> None:
        """Start the children that are due. `blocks`: whether the server has BLMOVE."""
        now = time.monotonic()
        due = [number for at, number in self._to_start if at <= now]
        self._to_start = [(at, number) for at, number in self._to_start if at > now]
        for number in due:
            if not self._stopping and not self._start(number, blocks):
                self._to_start.append((now + RESTART_DELAY, number))

    def _start(self, number: int, blocks: bool) -> bool:
        name, process = heartbeat.new_name(self._settings.name, number, self._settings.processes), None
        try:
            process = Process(name, number, Board(self._settings.concurrency, self._settings.async_concurrency))
            if not self._register(process):
                return False
            self._fork(process, blocks)
        except OSError as error:  # too many processes or files, or no memory
            logger.error("cannot start worker %s, trying again: %s", name, error)
            if process is not None:
                process.hang_up()
                self._settle(process)  # it was registered
            return False
        self._alive.append(process)
        tasks = f", an event loop of {process.board.tasks} tasks" if process.board.tasks else ""
        started = "worker %s started, pid %d, %d threads%s"
        logger.info(started, process.name, process.pid, self._settings.concurrency, tasks)
        return True

    def _fork(self, process: Process, blocks: bool) -> None:
        process.control, theirs = socket.socketpair()
        with theirs:
            sys.stdout.flush()
            sys.stderr.flush()
            signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # until the child can obey
            try:
                process.pid = os.fork()
                if process.pid == 0:
                    for each in [process, *self._alive]:
                        each.hang_up()
                    life.live(
                        self._settings, process, theirs, blocks=blocks, is_quiet=self._is_quiet, forked=self._forked
                    )
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)

    def files(self) -> list[int]:
        """Return the files to wait for: call `hear` when one is readable."""
        return [file for process in self._alive for file in process.files()]

    def hear(self) -> None:
        """Read the children's messages, and schedule successors of those that retire."""
        now = time.monotonic()
        for process in self:
            process.hear()
            if process.board.wants_successor and not process.has_successor and not self._stopping:
                if self._settings.burst and not self._has_work():
                    continue
                process.has_successor = True
                self._to_start.append((max(now, process.started_at + RESTART_DELAY), process.number))
                self._limit_retired(process.number)

    def _limit_retired(self, number: int) -> None:
        """Bound the number of processes when jobs run for hours beside one that hangs every few minutes."""
        retired = [each for each in self._alive if each.number == number and each.has_successor]
        for process in retired[:-RETIRED]:
            if process.leaves(time.monotonic()) is None:
                logger.warning("worker %s: %d younger ones retire, too; stopping it", process.name, RETIRED)
                os.kill(process.pid, signal.SIGTERM)

    def reap(self) -> None:
        """Record the children that have died, were stopped, or continue."""
        for process in self:
            pid, status = os.waitpid(process.pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            if pid == 0:
                continue
            if os.WIFSTOPPED(status):
                process.stopped_at = time.monotonic()
            elif os.WIFCONTINUED(status):
                process.stopped_at = None
            else:
                self._bury(process, os.waitstatus_to_exitcode(status))

    def _bury(self, process: Process, code: int) -> None:
        self._alive.remove(process)
        words = process.last_words()
        process.hang_up()
        follows = process.board.ended(process.pid)
        process.ended_properly = follows is not None and not process.is_killed
        failed_in_burst = False
        if not process.ended_properly:
            # An exit code proves nothing: any job can choose one.
            how = f"was killed by {name_of(-code)}" if code < 0 else f"ended by itself with code {code}"
            how += f": {words}" if words else ""
            logger.error("worker %s (pid %d) %s", process.name, process.pid, how)
            self._count_failed_start(process, how)
            failed_in_burst = self._settings.burst and bool(words)  # it could not start, or our own code failed
            self.failed = self.failed or failed_in_burst
        is_settled = self._settle(process)
        if not failed_in_burst and self._is_missed(process, follows, is_settled):
            soon = time.monotonic() - process.started_at < RESTART_DELAY
            self._to_start.append((time.monotonic() + (RESTART_DELAY if soon else 0.0), process.number))

    def _is_missed(self, process: Process, follows: int | None, is_settled: bool) -> bool:
        """Whether another child is to replace one that is gone."""
        if self._stopping:
            return False
        is_through = process.ended_properly and follows != ANOTHER
        if not self._settings.burst:
            return not is_through and not process.has_successor
        # A job of the old child may have enqueued another since its successor found no work, and the jobs of claims
        # that are not settled are work that no queue has yet. The successor may have looked for the last time already.
        if is_through and is_settled and process.number not in self._owed:
            return False
        if self._is_replaced(process):
            self._owed.add(process.number)
            return False
        self._owed.discard(process.number)
        return not is_settled or self._has_work()

    def _is_replaced(self, process: Process) -> bool:
        """Whether another child has the number of one that is gone, or is to be started under it."""
        return process.number in [*(each.number for each in self._alive), *(number for _, number in self._to_start)]

    def _count_failed_start(self, process: Process, how: str) -> None:
        """
        Give up when one child after the other dies before it has minded its threads and begun a job: the next one
        would, too. The clock does not tell: on a busy machine a start that fails may take seconds.
        """
        at_its_start = process.board.minded() == 0.0 and process.board.begun() < 0
        self._failures[process.number] = self._failures[process.number] + 1 if at_its_start else 0
        if self._failures[process.number] == FAILURES:
            logger.error(
                "giving up: %d processes in a row died as soon as they started; the last one %s", FAILURES, how
            )
            self.failed = self.are_hopeless = True

    def judge(self, *, since: float) -> None:
        """
        Kill children that no longer mind their threads. `since`: since when Redis has answered (monotonic seconds);
        loops need not turn before that.
        """
        now = time.monotonic()
        for process in self:
            if process.is_killed:
                continue
            reason, suspects = _verdict(process, now, since)
            if reason:
                logger.error("worker %s %s; killing it", process.name, reason)
                process.kill(suspects)

    def signal(self, number: int) -> None:
        """Pass a signal on to each child. Children that start after SIGTSTP are quiet from the start."""
        self._is_quiet = self._is_quiet or number == signal.SIGTSTP
        for process in self:
            os.kill(process.pid, number)

    def stop(self) -> None:
        """Stop each child, and start no more."""
        self._stopping = True
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill each child: its time to stop is over. The jobs that still run are not suspect."""
        for process in self:
            process.kill()


def _verdict(process: Process, now: float, since: float) -> tuple[str, list[str]]:
    """Return why a child is to be killed, or "", and the executions that are suspect. Others are not suspect."""
    leaving = process.leaves(now)
    if process.stopped_at is not None and now - process.stopped_at > UNSEEN:
        return f"has been stopped for {UNSEEN} s", []
    if leaving is not None and leaving > LEAVING:
        return f"has been ending for {leaving:.0f} s", []
    stalled = stall.stall(process.board, now, since=max(process.started_at, since), limit=stall.HOPELESS)
    if stalled and stall.is_hopeless(process.board):
        return stalled, []
    overdue = process.overdue(now, OVERDUE)
    if overdue and leaving is None:
        reason = f"lets no thread interrupt job {overdue[0].job_id}, which is far past its time-out"
        return reason, [job.execution for job in overdue]
    return "", []
