"""
One worker process. Its threads run jobs; its main thread minds them.

Minding means: interrupt jobs at their time-out, distinguish short jobs from long ones, write the counts on the board,
obey signals and the parent. When the parent's end of the control socket closes, nobody beats for this process any more,
so it stops.

A process ends in one of two ways. It *retires* for a reason of its own (a lost thread, --max-jobs, --max-memory): it
claims nothing more, its parent starts a successor at once, and it lives until its running jobs have ended. It *stops*
on a signal, or without its parent: running jobs have GRACE seconds, and then go back to their queues.
"""

import faulthandler
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence

from redis.exceptions import RedisError

from jobs.attempts import forks, profiles
from jobs.attempts.claim import Claim
from jobs.attempts.loop_task import LoopTask
from jobs.broker.connections import get_connection
from jobs.client import tracing
from jobs.limits import paused
from jobs.logs import AttemptLog
from jobs.safe_logging import safe_logger
from jobs.steps import checkpoints
from jobs.worker import breath, databases, outbox, pace, signals, stacks, waits
from jobs.worker.attempt import maker
from jobs.worker.connection import CONNECTION_ERRORS
from jobs.worker.fetch import Fetch
from jobs.worker.heartbeat import resident_megabytes
from jobs.worker.interruptions import Interruptions
from jobs.worker.loop import Loop
from jobs.worker.loop_side import LoopSide
from jobs.worker.orders import Orders
from jobs.worker.release import release
from jobs.worker.scoreboard import ANOTHER, NO_MORE, Board
from jobs.worker.settings import WorkerSettings
from jobs.worker.threads import JobThread, allow
from jobs.worker.tracing import flush as flush_spans

logger = safe_logger("jobs.worker")

LOOK_EVERY = 0.02  # seconds between checks of a thread that is to be interrupted
GRACE = 25  # seconds that running jobs have to end when the worker is stopped


class Child:
    """
    1. starts its threads; 2. minds them until they have ended, because it retires, or until its time to stop is over;
    3. gives back claims not begun; 4. commits, puts running jobs back, and returns what follows.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        name: str,
        board: Board,
        control: socket.socket,
        *,
        blocks: bool,
        is_quiet: bool = False,
    ) -> None:
        self._settings, self._board, self._name = settings, board, name
        self._orders = Orders(control)
        self._loop = LoopSide(board, self._orders.wake) if settings.async_concurrency else None
        make_fetch = Fetch if self._loop is None else self._loop.fetch
        self._fetch = make_fetch(
            name,
            settings.queues,
            threads=settings.concurrency,
            board=board,
            blocks=blocks,
            release=lambda member: release(get_connection(next(iter(settings.queues))), member),
            burst=settings.burst,
            max_jobs=settings.max_jobs,
        )
        self._threads = [
            JobThread(number, self._fetch, board, maker(name, self._allow), self._orders.wake)
            for number in range(settings.concurrency)
        ]
        if self._loop is not None:
            self._loop.serve(self._threads)
        self._leave_by: float | None = None  # monotonic seconds; None unless it stops
        self._retires, self._follows = False, NO_MORE
        self._busy_at, self._looked_at_memory = time.monotonic(), 0.0
        self._interruptions = Interruptions(self._fetch, board, self._running)
        self._is_born_quiet = is_quiet

    def run(self) -> int:
        """Run until the process is to end. Returns NO_MORE, or ANOTHER if a process is to take its place."""
        self._orders.listen(show_stacks=self._dump_stacks)
        forks.watch(self._let_go_in_fork, signals.HANDLED)
        checkpoints.asked, checkpoints.allow = self._asked, self._allow
        databases.prepare()
        logging.getLogger().addHandler(AttemptLog())
        breath.start(self._board)
        outbox.start(next(iter(self._settings.queues)))
        waits.watch(self._settings.queues)
        if self._loop is not None:
            self._loop.begin(self._board.mind)
        if self._is_born_quiet:  # before a thread could claim
            self._quiet()
        for thread in self._threads:
            thread.start()
        while self._is_at_work():
            self._wait(self._tick())
            self._mind()
            if self._leave_by is not None and time.monotonic() > self._leave_by:
                break
        return self._end()

    def _running(self) -> Sequence[JobThread | LoopTask]:
        return self._threads if self._loop is None else [*self._threads, *self._loop.tasks()]

    def _is_at_work(self) -> bool:
        is_alive = any(thread.is_alive() for thread in self._threads if thread not in self._interruptions.lost)
        return is_alive or (self._loop is not None and self._loop.is_at_work())

    def _wait(self, seconds: float) -> None:
        """Wait for a signal, the parent or a thread, at most this long, and obey."""
        received, has_lines = self._orders.wait(seconds)
        if has_lines:
            self._obey()
        if signal.SIGTSTP in received:
            self._quiet()
        if signal.SIGTERM in received:
            self._stop()
        if signal.SIGTTIN in received:
            self._show_stacks()
        for number in received:
            if number in signals.MEANINGLESS:
                signals.explain(number)

    # --- minding ---------------------------------------------------------------------------------

    def _tick(self) -> float:
        if self._interruptions.is_pending:
            return LOOK_EVERY
        if self._fetch.held and (self._fetch.pace.is_short or self._fetch.has_ready):
            return pace.LONG / 2
        return 0.1 if self._fetch.held or self._fetch.stopping else 1.0

    def _mind(self) -> None:
        now = time.monotonic()
        running = [(thread, claim) for thread in self._threads if (claim := thread.claim) is not None]
        if running or self._fetch.held:
            self._busy_at = now
        if reason := self._interruptions.check():
            self._retire(reason, logging.ERROR)
        longest = max((now - claim.started for _, claim in running), default=0.0)
        self._fetch.pace.judge(longest)
        if longest > pace.LONG:
            self._fetch.leave_door()
            if self._fetch.has_ready:
                self._fetch.give_back()
        self._show_counts()
        if self._leave_by is None:
            self._board.mind()
        if not self._fetch.stopping and not all(thread.is_alive() for thread in self._threads):
            self._retire("a thread of this process has died", logging.ERROR)
        self._recycle_if_due(now)
        if self._loop is not None and self._leave_by is None and (reason := self._loop.check()):
            self._retire(reason, logging.ERROR)
            self._leave_by = now + GRACE  # its tasks cannot end: they go back to their queues with the process
            self._board.leave()

    def _allow(self, claim: Claim, seconds: float | None) -> None:
        if seconds is None:
            self._interruptions.serve(claim)
        for each in self._running():
            if each.claim is claim:
                allow(self._board, each.number, claim, seconds)

    def _asked(self, claim: Claim) -> str:
        """Why an attempt is to end at its next checkpoint; "" if it may go on."""
        if self._leave_by is not None:
            return f"the worker {self._name} stops"
        at = list(self._settings.queues).index(claim.queue_name)
        return f"the queue {claim.queue_name} is paused" if self._board.is_paused(at) else ""

    def _recycle_if_due(self, now: float) -> None:
        if self._retires or self._leave_by is not None:
            return
        idle, most = self._settings.max_idle_time, self._settings.max_memory
        if self._fetch.stopping:  # by itself: burst, or enough jobs
            if self._settings.burst:
                self._retire("the queues are empty, or --max-jobs is reached", logging.INFO, follows=NO_MORE)
            else:
                self._retire("--max-jobs is reached", logging.INFO)
        elif idle is not None and now - self._busy_at > idle:
            self._retire(f"idle for {idle} s", logging.INFO)
        elif most is not None and now - self._looked_at_memory > 1:
            self._looked_at_memory = now
            if (used := resident_megabytes(os.getpid())) > most:
                self._retire(f"{used:.0f} MB in use, over the {most} of --max-memory")

    def _let_go_in_fork(self) -> None:  # what makes this process a worker
        self._board.detach()
        self._orders.let_go()

    # --- orders ----------------------------------------------------------------------------------

    def _obey(self) -> None:
        orders = self._orders.heard()
        if orders is None:
            logger.error("the parent is gone: nobody beats for this process, so it stops")
            self._stop()
            return
        for word, *about in orders:
            if word == "stop":
                self._interruptions.stop(self._fetch.forget(*about))
            elif word in ("pause", "resume"):
                paused.commands = paused.commands - {*about} if word == "resume" else paused.commands | {*about}
            elif word == "profile":
                logger.warning("profiling the next %d attempts of this process", profiles.NEXT_ONES)
                profiles.want_next_ones()

    def _retire(self, reason: str, level: int = logging.WARNING, *, follows: int = ANOTHER) -> None:
        """
        Claim nothing more, have the parent start a successor (unless `follows` is NO_MORE), and end when the running
        jobs have ended, which their time-outs bound. Does nothing in a process that already retires or stops.
        """
        if self._retires or self._leave_by is not None:
            return
        self._retires, self._follows = True, follows
        logger.log(level, "%s: this process takes no more jobs, and ends when those that run have ended", reason)
        for number, thread in enumerate(self._threads):
            if thread.ident is not None and not thread.is_alive():
                self._board.end(number)  # the parent must not judge the job of a thread that has died
        self._fetch.stop()
        self._board.retire(follows)
        self._orders.wake_parent()

    def _stop(self) -> None:
        """Claim nothing more, and end when the running jobs have ended, or in GRACE seconds."""
        if self._leave_by is None:
            self._leave_by = time.monotonic() + GRACE
            self._follows = NO_MORE
            self._fetch.stop()
            self._board.leave()
            logger.info("taking no more jobs; those that run have %g s", GRACE)

    def _quiet(self) -> None:
        self._fetch.quiet()
        logger.warning("quiet: taking no more jobs")

    def _dump_stacks(self) -> None:
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)

    def _show_stacks(self) -> None:
        try:
            stacks.show(get_connection(next(iter(self._settings.queues))), self._name, self._threads)
        except (RedisError, OSError) as error:
            logger.warning("the stacks are only in this log: %s", error)

    # --- the end ---------------------------------------------------------------------------------

    def _end(self) -> int:
        self._fetch.give_back()
        if self._loop is not None:
            self._loop.end()
        self._commit_the_rest()
        if self._loop is not None and self._loop.failure is not None:
            raise self._loop.failure  # an end that is no proper one: the parent gives back what still runs
        if self._fetch.held:
            try:
                self._fetch.put_back_running()
            except CONNECTION_ERRORS as error:  # the parent, or another worker, puts them back
                logger.error("could not put %d running jobs back: %s", len(self._fetch.held), error)
        self._show_counts()
        if tracing.is_on:
            flush_spans()
        return self._follows

    def _commit_the_rest(self) -> None:
        """Commit the outcomes. While the server is away, wait for it: GRACE seconds if this process stops."""
        deadline = None
        while not self._fetch.flush():
            if self._leave_by is None:
                self._board.mind()
            elif deadline is None:
                deadline = time.monotonic() + GRACE
            elif time.monotonic() > deadline:
                break
            self._wait(0.2)

    def _show_counts(self) -> None:
        counted: list[JobThread | Loop] = [*self._threads, *([] if self._loop is None else [self._loop.thread])]
        self._board.count(
            sum(each.finished for each in counted),
            sum(each.failed for each in counted),
            sum(each.working for each in counted),
        )
