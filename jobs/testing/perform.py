"""
Performs the jobs that a kit has recorded: on a call, or each job as soon as it is enqueued.

The engine's own code runs the attempt and decides its outcome. One attempt runs at a time, as in a worker of one
thread: jobs that a job enqueues are performed when its attempt is over.
"""

import time
from collections import Counter, deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from asgiref.sync import sync_to_async

from jobs import conf, queues
from jobs.attempts.outcomes import Amended, Dead, Retried
from jobs.batches.batch import Batch
from jobs.batches.record import CHILD
from jobs.broker import keys
from jobs.job import MandateJob
from jobs.record.states import ENDED
from jobs.testing import attempt, patches
from jobs.testing.matching import aware
from jobs.testing.recorded import Chosen, Recorded, Wanted
from jobs.testing.scripts import ScriptedMemory
from jobs.testing.strikes import Strikes
from jobs.testing.with_statement import caller, is_entered

MOST_RUNS = 100  # attempts in a row, at one job or at jobs that enqueue one another: more is work that will not end


class AtOnce:
    """A block in which jobs are performed as soon as they are enqueued."""

    def __init__(self, wanted: Wanted, until: float | None, raises: bool) -> None:
        self.wanted, self.until, self.raises = wanted, until, raises
        self.error: Exception | None = (
            None  # the first one, raised at the end of the block: the code under test must not see it
        )


class Performer:
    """Holds the jobs of one test and its clock, and performs the jobs."""

    below: patches.OpenKit | None = None  # the kit that this one covers while it is open

    def __init__(self) -> None:
        self.memory = ScriptedMemory(self._pushed, self._collapsed, self._perform_until_ended)
        self.enqueued_jobs: list[Recorded] = []
        self.performed_jobs: list[Recorded] = []
        self._ahead = 0.0  # seconds by which the clock is ahead
        self._stop: float | None = None  # where the clock stands still while `travel` performs jobs
        self._blocks: list[AtOnce] = []  # the innermost last; it decides which jobs are performed at once
        self._next: deque[Recorded] = deque()  # to be performed at once, when the attempt that is running is over
        self._running: str | None = None  # the id of the job whose attempt is running
        self.strikes = Strikes()
        self._runs: Counter[str] = Counter()  # how many attempts in a row have led to a job

    def perform_enqueued_jobs(
        self,
        *,
        only: Chosen = None,
        exclude: Chosen = None,
        queue: str | None = None,
        at: datetime | None = None,
        raise_errors: bool = False,
    ) -> Any:
        """
        As a call: perform the jobs that were enqueued so far and are due, each job once. Returns the number of
        attempts. Jobs that these jobs enqueue, retries and requeues too, are left for the next call.

            jobs.perform_enqueued_jobs()

        In a `with`: perform each job as soon as it is enqueued, and the jobs that it enqueues in turn.

            with jobs.perform_enqueued_jobs(only=SendWelcomeEmail):
                client.post("/signup/", ...)

        `only`, `exclude`: a command, several, or a function of the recorded job; `queue`: only jobs of that queue.
        Jobs due in the future stay. With `at`, an aware datetime, jobs due by then are performed: a call moves the
        clock there first, a block moves it on to the time of each job. Failures have the same outcomes as in a worker:
        retries, deaths, discards. With `raise_errors` the first one is raised as an AssertionError, here or at the end
        of the block. Raises RuntimeError there for a job that is performed over 100 times.
        """
        wanted = Wanted(only, exclude, queue)
        until = None if at is None else aware(at).timestamp()
        if is_entered(caller()):
            return self._at_once(wanted, until=until, raises=raise_errors)
        return self._perform_now(wanted, until, raise_errors)

    async def aperform_enqueued_jobs(
        self,
        *,
        only: Chosen = None,
        exclude: Chosen = None,
        queue: str | None = None,
        at: datetime | None = None,
        raise_errors: bool = False,
    ) -> int:
        """`perform_enqueued_jobs` as a call, for async tests. In a `with`, they use that itself."""
        until = None if at is None else aware(at).timestamp()
        return await sync_to_async(self._perform_now)(Wanted(only, exclude, queue), until, raise_errors)

    async def atravel(self, to: datetime | timedelta | float) -> int:
        """`travel` for async tests."""
        return await sync_to_async(self.travel)(to)

    def _perform_now(self, wanted: Wanted, until: float | None, raises: bool) -> int:
        self._move_to(until)
        with patches.showing(self):
            return self._perform_all(wanted, raises=raises)

    def travel(self, to: datetime | timedelta | float) -> int:
        """
        Move the clock on to a time, or by a timedelta or seconds, and perform the jobs that become due. The clock stops
        at each due time on the way, so a retry counts its delay from there. Returns the number of attempts. Only jobs
        use this clock: `timezone.now()` does not change.
        """
        with patches.showing(self):
            if isinstance(to, datetime):
                until = aware(to).timestamp()
            else:
                seconds = to.total_seconds() if isinstance(to, timedelta) else to
                if seconds < 0:
                    raise ValueError(f"travel({to!r}): time does not go back.")
                until = self.now() + seconds
            self._stop = self.now()
            try:
                # First what has become due since the last call.
                attempts = self._perform_due_at(self._stop) if until > self._stop else 0
                # A time that is past already is no stop: a job that defers itself to such a time would never end.
                while (due := self.memory.next_due(after=self.now())) is not None and due <= until:
                    attempts += self._perform_due_at(due)
                return attempts + self._perform_due_at(until)
            finally:
                self._ahead, self._stop = self.now() - time.time(), None

    def now(self) -> float:
        """Return the time of this test, in seconds since the epoch."""
        return time.time() + self._ahead if self._stop is None else self._stop

    def _perform_due_at(self, at: float) -> int:
        before = self._queued()
        self._move_to(at)
        return self._perform_all(Wanted(), besides=before)

    def _move_to(self, at: float | None) -> None:
        if at is None:
            return
        if self._stop is None:
            self._ahead += max(0.0, at - self.now())
        else:
            self._stop = max(self._stop, at)

    # --- at once ---------------------------------------------------------------------------------

    @contextmanager
    def _at_once(self, wanted: Wanted, *, until: float | None = None, raises: bool = False) -> Iterator[None]:
        block = AtOnce(wanted, until, raises)
        if not self._blocks:
            self._runs.clear()
        self._blocks.append(block)
        try:
            yield
        except BaseException as error:
            if block.error:  # perhaps the cause
                error.add_note(f"Before that: {block.error}")
            raise
        finally:
            self._blocks.remove(block)
        if block.error:
            raise block.error

    def _pushed(self, job_id: str, *, counts: bool) -> None:
        """Record a job that was written, requeued or retried; `counts` is False if it was released or postponed."""
        recorded = self._recorded(job_id)
        if counts:
            self.enqueued_jobs.append(recorded)
            self._runs[job_id] = self._runs[self._running] if self._running else 0
        if self._blocks and self._blocks[-1].wanted(recorded):
            self._next.append(recorded)
            if self._running is None:
                with patches.showing(self):
                    self._perform_next()

    def _collapsed(self, job_id: str) -> None:
        """Show in the last push of a job what it took from one that has collapsed into it: arguments and time."""
        for at, recorded in reversed([*enumerate(self.enqueued_jobs)]):
            if recorded.job.id == job_id:
                self.enqueued_jobs[at] = self._recorded(job_id)
                break

    def _perform_next(self) -> int:
        attempts = 0
        while self._next and self._blocks:
            block, recorded = self._blocks[-1], self._next.popleft()
            due = self.memory.due(recorded.job.id)  # exact, where `recorded.at` is rounded to microseconds
            if due is not None and block.until and due <= block.until:
                self._move_to(due)
            try:
                attempts += self._perform(recorded, raises=block.raises)
            except (AssertionError, RuntimeError) as error:
                block.error = block.error or error
        return attempts

    # --- now -------------------------------------------------------------------------------------

    def _perform_all(self, wanted: Wanted, *, besides: Collection[str] = (), raises: bool = False) -> int:
        """Perform the queued and due jobs, each once, and the waiting jobs that these release."""
        if not self._blocks:
            self._runs.clear()
        self.memory.promote()
        left = {*self._queued(), *self.memory.waiting()} - {*besides}
        attempts = 0
        while ready := [job_id for job_id in self._queued() if job_id in left]:
            for job_id in ready:
                left.discard(job_id)
                if self._is_queued(job_id) and wanted(recorded := self._recorded(job_id)):
                    attempts += self._perform(recorded, raises=raises) + self._perform_next()
        return attempts

    def _perform_until_ended(self, job_id: str) -> None:
        """Perform the queued and due jobs, again and again, until this one has ended or none is left."""
        with patches.showing(self):
            for _ in range(MOST_RUNS):  # a job that always puts itself back never ends
                if self._has_ended(job_id) or not self._perform_all(Wanted()):
                    break

    def _has_ended(self, job_id: str) -> bool:
        if job_id.startswith(CHILD):
            return Batch.handle(job_id.removeprefix(CHILD), self.memory).has_ended  # type: ignore[arg-type]
        state = MandateJob(job_id, connection=self.memory).state  # type: ignore[arg-type]
        return state is not None and state in ENDED

    def _queued(self) -> list[str]:
        """Return the jobs in the queues that are not paused, in the order in which a worker takes them."""
        paused = queues.paused()
        names = [name for name in conf.queues() if name not in paused]
        return [member.decode() for name in names for member in self.memory.lrange(keys.queue(name), 0, -1)]

    def _perform(self, recorded: Recorded, *, raises: bool) -> int:
        """Make an attempt at a job, if it is in its queue by now. Returns the number of attempts, 0 or 1."""
        job_id = recorded.job.id
        self.memory.promote()
        if not self._is_queued(job_id):
            return 0  # not due, or waiting
        self._runs[job_id] += 1
        if self._runs[job_id] > MOST_RUNS:
            raise RuntimeError(
                f"{recorded} would be performed after {MOST_RUNS} attempts in a row, at itself or at jobs that have "
                f"enqueued it: that will not end (job {job_id})."
            )
        outer, self._running = self._running, job_id
        try:
            claim = self.memory.claim(job_id)
            if claim is None:
                return 0
            self.performed_jobs.append(recorded)
            outcome, command, seconds = attempt.make(claim)
            if isinstance(outcome, Amended):  # no attempt: its record lacked a limit, and its place may be another
                self.performed_jobs.pop()
                self.memory.commit(claim, outcome, command, seconds)
                return self._perform(recorded, raises=raises)
            if self.strikes.is_killed:
                self.strikes.is_killed = False
                self.memory.lose(claim)
            else:
                self.memory.commit(claim, outcome, command, seconds)
        finally:
            self._running = outer
        if raises and isinstance(outcome, Retried | Dead):
            raise AssertionError(f"{recorded} failed: {outcome.reason}\n{outcome.traceback}")
        return 1

    def _is_queued(self, job_id: str) -> bool:
        return self.memory.hget(keys.job(job_id), "status") == b"queued"

    def _recorded(self, job_id: str) -> Recorded:
        job = MandateJob.fetch(job_id, connection=self.memory)  # type: ignore[arg-type]
        return Recorded.of(job, due=self.memory.due(job_id))  # type: ignore[arg-type]
