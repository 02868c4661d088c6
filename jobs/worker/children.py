"""The children of a parent: started under a registered name, buried when they die, killed when they are beyond help."""

import contextlib
import logging
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator

from jobs.worker import heartbeat
from jobs.worker.board import Board
from jobs.worker.child import COMEBACK, DONE, PASSED_ON, RECYCLE, Child
from jobs.worker.recovery import UNSEEN
from jobs.worker.settings import WorkerSettings
from jobs.worker.stall import HOPELESS, stall

logger = logging.getLogger("jobs.worker")

OVERDUE = 2 * COMEBACK  # seconds past its time-out after which a job's process cannot be minding itself any more
CALM = 1.0  # seconds before a child that died at once is replaced
FAILURES = 5  # children in a row that may die at once, with no job begun, before the worker gives up


class Process:
    """One child as its parent sees it."""

    def __init__(self, name: str, number: int, board: Board) -> None:
        self.name, self.number, self.board = name, number, board
        self.born, self.started_at = time.time(), time.monotonic()
        self.pid = 0
        self.control: socket.socket  # ours; the child leaves when it closes
        self.stopped_at: float | None = None  # since when it is SIGSTOPped (monotonic seconds)
        self.killed = False

    def last_words(self) -> str:
        """The last line that a child which failed has left us; nothing from one that was killed."""
        try:
            text = self.control.recv(65_536, socket.MSG_DONTWAIT).decode(errors="replace")
        except OSError:
            return ""
        return text.strip().rpartition("\n")[2]


class Children:
    """
    `register(process)` is called before a fork: nothing may be claimed under a name that is not registered. It returns
    whether that worked. `settle(process)` is called when a child is gone, with what it held still in its name.
    `forked()` is called in each child, to let go of what is the parent's.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        register: Callable[[Process], bool],
        settle: Callable[[Process], object],
        forked: Callable[[], object],
    ) -> None:
        self.failed = False  # whether the worker ends badly
        self.are_hopeless = False  # whether it should end, because its children cannot even start
        self._settings, self._register, self._settle, self._forked = settings, register, settle, forked
        self._alive: list[Process] = []
        self._to_start = [(0.0, number) for number in range(settings.processes)]  # when, and which
        self._stopping = False
        self._failures = [0] * settings.processes  # in a row, of each number

    def __iter__(self) -> Iterator[Process]:
        return iter(list(self._alive))

    @property
    def are_gone(self) -> bool:
        """Whether none lives, and none is to be started."""
        return not self._alive and (self._stopping or not self._to_start)

    def next_start(self) -> float:
        """When the next child is due (monotonic seconds)."""
        return min((at for at, _ in self._to_start), default=float("inf"))

    def start_due(self, *, blocks: bool) -> None:
        """Start whoever is due. `blocks`: whether the server has BLMOVE."""
        now = time.monotonic()
        due = [number for at, number in self._to_start if at <= now]
        self._to_start = [(at, number) for at, number in self._to_start if at > now]
        for number in due:
            if not self._stopping and not self._start(number, blocks):
                self._to_start.append((now + CALM, number))

    def _start(self, number: int, blocks: bool) -> bool:
        name = heartbeat.new_name(self._settings.name, number, self._settings.processes)
        process = Process(name, number, Board(self._settings.concurrency))
        if not self._register(process):
            return False
        process.control, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # what comes before the child can obey waits until it can
        process.pid = os.fork()
        if process.pid == 0:
            process.control.close()
            os._exit(self._live(process, theirs, blocks))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        theirs.close()
        self._alive.append(process)
        logger.info("worker %s started, pid %d, %d threads", name, process.pid, self._settings.concurrency)
        return True

    def _live(self, process: Process, control: socket.socket, blocks: bool) -> int:
        """The child's whole life, on its side of the fork. Returns its exit code."""
        try:
            self._forked()
            for sibling in self._alive:
                sibling.control.close()
            return Child(self._settings, process.name, process.board, control, blocks=blocks).run()
        except BaseException as error:
            traceback.print_exc()
            with contextlib.suppress(OSError):  # the parent is gone
                control.send("".join(traceback.format_exception_only(error)).encode())
            return 1
        finally:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()

    def reap(self) -> None:
        """See who has died, was stopped, or goes on."""
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
        process.control.close()
        crashed_in_burst = self._settings.burst and code > 0 and code != RECYCLE
        self.failed = self.failed or crashed_in_burst
        if code not in (DONE, RECYCLE):
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            how += f": {words}" if words else ""
            logger.error("worker %s (pid %d) %s", process.name, process.pid, how)
            self._despair(process, how)
        self._settle(process)
        if code != DONE and not crashed_in_burst and not self._stopping:
            soon = time.time() - process.born < CALM
            self._to_start.append((time.monotonic() + (CALM if soon else 0.0), process.number))

    def _despair(self, process: Process, how: str) -> None:
        """Give up when one child after the other dies before it could do anything: the next one would, too."""
        at_once = time.time() - process.born < CALM and process.board.begun() < 0
        self._failures[process.number] = self._failures[process.number] + 1 if at_once else 0
        if self._failures[process.number] == FAILURES:
            logger.error(
                "giving up: %d processes in a row died as soon as they started; the last one %s", FAILURES, how
            )
            self.failed = self.are_hopeless = True

    def judge(self, *, since: float) -> None:
        """
        Kill those that cannot be minding themselves any more. `since`: from when on Redis has answered (monotonic
        seconds), without which loops need not turn.
        """
        now = time.monotonic()
        for process in self:
            running = process.board.running()
            overdue = [job for job in running if job.deadline + OVERDUE < now]
            stalled = stall(process.board, now, since=max(process.started_at, since), limit=HOPELESS)
            if process.killed:
                continue
            if overdue:
                logger.error("worker %s: job %s is far past its time-out; killing it", process.name, overdue[0].job_id)
            elif process.stopped_at is not None and now - process.stopped_at > UNSEEN:
                logger.error("worker %s has been stopped for %d s; killing it", process.name, UNSEEN)
            elif stalled and not running:
                logger.error("worker %s %s; killing it", process.name, stalled)
            else:
                continue
            process.killed = True
            os.kill(process.pid, signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Pass a signal on to each."""
        for process in self:
            os.kill(process.pid, number)

    def stop(self) -> None:
        """Tell each to stop, and start no more."""
        self._stopping = True
        self.signal(signal.SIGTERM)
