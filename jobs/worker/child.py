"""
One worker process. Its threads run jobs; its main thread minds them.

Minding is: interrupt what is out of time, tell short jobs from long ones, write the counts on the board, obey signals
and the parent. The parent's end of the control socket closing means that nobody beats for us any more: leave.
"""

import contextlib
import faulthandler
import logging
import os
import select
import signal
import socket
import statistics
import sys
import time

from redis.exceptions import RedisError

from jobs import execution, profiles, tracing
from jobs.connections import get_connection
from jobs.interrupt import JobInterrupt, Stopped, TimedOut
from jobs.logs import AttemptLog
from jobs.worker import databases, stacks
from jobs.worker.board import Board
from jobs.worker.claim import Claim
from jobs.worker.fetch import TROUBLE, Fetch
from jobs.worker.heartbeat import resident_megabytes
from jobs.worker.plain import attempt
from jobs.worker.release import release
from jobs.worker.settings import WorkerSettings
from jobs.worker.threads import JobThread

logger = logging.getLogger("jobs.worker")

SHORT = 0.001  # seconds: while the median attempt takes less, claims are batched
LOOK_EVERY = 0.02  # seconds between looks at a thread that is to be interrupted
HOSTAGE = 0.020  # seconds: a running job that takes longer must not hold claimed ones up
COMEBACK = 30  # seconds that an interrupted thread has to come back
GRACE = 25  # seconds that running jobs have to end when the worker is stopped

PASSED_ON = {signal.SIGTERM, signal.SIGTSTP, signal.SIGTTIN}  # by the parent
DONE, RECYCLE = 0, 3  # exit codes: not to be replaced, and to be


class Child:
    """
    1. starts its threads; 2. minds them until it is told to stop, or has had enough; 3. gives back what nobody has
    begun and waits for what runs; 4. commits, and leaves.
    """

    def __init__(
        self, settings: WorkerSettings, name: str, board: Board, control: socket.socket, *, blocks: bool
    ) -> None:
        self._settings, self._board, self._control = settings, board, control
        self._name = name
        self._fetch = Fetch(
            name,
            settings.queues,
            threads=settings.concurrency,
            board=board,
            blocks=blocks,
            release=lambda member: release(get_connection(next(iter(settings.queues))), member),
            burst=settings.burst,
            max_jobs=settings.max_jobs,
        )
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._waker, False)
        self._threads = [
            JobThread(number, self._fetch, board, attempt(name, self._allow), self._wake_up)
            for number in range(settings.concurrency)
        ]
        self._leave_by: float | None = None  # monotonic seconds
        self._exit_code = DONE
        self._busy_at = time.monotonic()
        self._looked_at_memory = 0.0
        self._lost: set[JobThread] = set()  # threads that did not come back
        self._told: list[int] = []  # signals that are still to be obeyed
        self._to_stop: dict[Claim, float] = {}  # and since when, in monotonic seconds
        self._interrupting = False  # whether an interrupt waits for a safe point

    def run(self) -> int:
        """Live. Returns the exit code."""
        self._handle_signals()
        databases.prepare()
        logging.getLogger().addHandler(AttemptLog())
        for thread in self._threads:
            thread.start()
        while any(thread.is_alive() for thread in self._threads if thread not in self._lost):
            readable, _, _ = select.select([self._control.fileno(), self._wake], [], [], self._tick())
            if self._wake in readable:
                os.read(self._wake, 4_096)
            if self._control.fileno() in readable:
                self._obey()
            told, self._told = self._told, []
            if signal.SIGTSTP in told:
                self._quiet()
            if signal.SIGTERM in told:
                self._stop(DONE)
            if signal.SIGTTIN in told:
                self._show_stacks()
            self._mind()
            if self._leave_by is not None and time.monotonic() > self._leave_by:
                break
        return self._end()

    # --- minding ---------------------------------------------------------------------------------

    def _tick(self) -> float:
        if self._interrupting:
            return LOOK_EVERY
        if self._fetch.short_jobs and self._fetch.held:
            return HOSTAGE / 2
        return 0.1 if self._fetch.held or self._fetch.stopping else 1.0

    def _mind(self) -> None:
        now = time.monotonic()
        running = [(thread, claim) for thread in self._threads if (claim := thread.claim) is not None]
        if running or self._fetch.held:
            self._busy_at = now
        self._interrupt(running, now)
        self._fetch.short_jobs = self._jobs_are_short()
        if self._fetch.has_ready and any(now - claim.started > HOSTAGE for _, claim in running):
            self._fetch.short_jobs = False
            self._fetch.give_back()
        self._show_counts()
        if self._leave_by is None:
            self._board.mind()
        if not self._fetch.stopping and not all(thread.is_alive() for thread in self._threads):
            logger.error("a thread of this process has died; the process drains")
            self._stop(RECYCLE)
        self._recycle_if_due(now)

    def _interrupt(self, running: list[tuple[JobThread, Claim]], now: float) -> None:
        """Interrupt what is out of time or is to stop; give up what has not come back for long."""
        self._to_stop = {claim: since for claim, since in self._to_stop.items() if claim.execution in self._fetch.held}
        self._interrupting = False
        for thread, claim in running:
            if thread in self._lost:
                continue
            kind: type[JobInterrupt] = TimedOut
            since = claim.deadline
            if claim in self._to_stop:
                kind, since = Stopped, self._to_stop[claim]
            if now <= since:
                continue
            self._interrupting = True
            if thread.interruptible.interrupt(claim, kind) and kind is TimedOut:
                logger.warning("timed out: job %s, after %g s", claim.job_id, claim.limit or 0)
            if now > since + COMEBACK:
                self._give_up(thread, kind)

    def _jobs_are_short(self) -> bool:
        return statistics.median(duration for thread in self._threads for duration in thread.durations) < SHORT

    def _give_up(self, thread: JobThread, kind: type[JobInterrupt]) -> None:
        """A thread sits in code that no interrupt reaches. Its attempt is over; the process is spoilt."""
        claim = thread.claim
        if claim is None:
            return
        logger.error("job %s did not come back %d s after its interrupt; this process drains", claim.job_id, COMEBACK)
        self._lost.add(thread)
        thread.give_up()
        self._dump_stacks()
        outcome, command = execution.given_up(claim, kind)
        self._fetch.commits.add(claim, outcome, command, time.monotonic() - claim.started)
        self._fetch.flush()
        self._stop(RECYCLE)

    def _allow(self, claim: Claim, seconds: float | None) -> None:
        for thread in self._threads:
            if thread.claim is claim:
                thread.allow(seconds)

    def _recycle_if_due(self, now: float) -> None:
        if self._fetch.stopping:
            if self._leave_by is None:  # the fetch has stopped by itself: burst, or enough jobs
                self._stop(DONE if self._settings.burst else RECYCLE)
            return
        idle, most = self._settings.max_idle_time, self._settings.max_memory
        if idle is not None and now - self._busy_at > idle:
            logger.info("idle for %d s: this process ends", idle)
            self._stop(RECYCLE)
        elif most is not None and now - self._looked_at_memory > 1:
            self._looked_at_memory = now
            if (used := resident_megabytes(os.getpid())) > most:
                logger.warning("%d MB in use, over the %d of --max-memory: this process ends", used, most)
                self._stop(RECYCLE)

    # --- being told ------------------------------------------------------------------------------

    def _handle_signals(self) -> None:
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent passes it on
        for number in (signal.SIGTERM, signal.SIGTSTP):  # not obeyed at once: we may hold the lock of the connection
            signal.signal(number, lambda number, _: self._told.append(number))
        signal.signal(signal.SIGTTIN, self._told_to_show_stacks)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)

    def _told_to_show_stacks(self, number: int, _frame: object) -> None:
        self._dump_stacks()  # at once, whatever the main thread waits for
        self._told.append(number)

    def _wake_up(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it is being woken already
            os.write(self._waker, b"!")

    def _obey(self) -> None:
        message = self._control.recv(65_536)
        if not message:
            logger.error("the parent is gone: nobody beats for this process, so it stops")
            self._stop(DONE)
            self._control = socket.socketpair()[0]  # one that is never readable
            return
        for line in message.decode().splitlines():
            word, job_id, execution = line.split(" ", 2)
            if word == "stop":
                for claim in self._fetch.forget(job_id, execution):
                    self._to_stop.setdefault(claim, time.monotonic())
            elif word == "profile":
                logger.warning("profiling the next %d attempts of this process", profiles.NEXT_ONES)
                profiles.want_next_ones()

    def _stop(self, code: int) -> None:
        if self._leave_by is None:
            self._leave_by = time.monotonic() + GRACE
            self._exit_code = code
            self._fetch.stop()
            self._board.leave()
            logger.info("taking no more jobs; those that run have %g s", GRACE)

    def _quiet(self) -> None:
        logger.warning("quiet: taking no more jobs")
        self._fetch.quiet()

    def _dump_stacks(self) -> None:
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)

    def _show_stacks(self) -> None:
        try:
            stacks.show(get_connection(next(iter(self._settings.queues))), self._name, self._threads)
        except (RedisError, OSError) as error:
            logger.warning("the stacks are in this log alone: %s", error)

    # --- the end ---------------------------------------------------------------------------------

    def _end(self) -> int:
        self._fetch.give_back()
        deadline = time.monotonic() + GRACE
        while not self._fetch.flush() and time.monotonic() < deadline:
            time.sleep(0.2)  # the server is away: what is done waits for it
        if self._fetch.held:
            try:
                self._fetch.put_back_running()
            except TROUBLE as error:  # the parent, or another worker, gives them back
                logger.error("could not put %d running jobs back: %s", len(self._fetch.held), error)
        self._show_counts()
        if tracing.is_on:
            tracing.flush()
        return self._exit_code

    def _show_counts(self) -> None:
        self._board.count(
            sum(thread.finished for thread in self._threads),
            sum(thread.failed for thread in self._threads),
            sum(thread.working for thread in self._threads),
        )
