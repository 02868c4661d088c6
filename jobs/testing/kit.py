"""
The kit of one test: while it is open, every job of this thread is kept in memory, and performed when the test says so.

Everything else is the engine's own code: arguments go through JSON both ways, `execution` runs the attempt and decides
its outcome.
"""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Self

from jobs import conf, execution, seams
from jobs.interrupt import Interruptible
from jobs.job import MandateJob
from jobs.outcomes import Dead, Retried
from jobs.testing import stage
from jobs.testing.assertions import Assertions, is_entered
from jobs.testing.recorded import Chosen, Recorded, Wanted, wanting
from jobs.testing.scripts import ScriptedMemory, queue_key

MOST_RUNS = 100  # of one job by one `perform_enqueued_jobs`: more is a job that will not end


class Kit(Assertions):
    """
    What the fixture `jobs` and `JobsTestMixin` give a test.

    `enqueued_jobs` has every push: new jobs, requeues and retries, whether they were performed or not. `performed_jobs`
    has every attempt.
    """

    def __init__(self) -> None:
        self.memory = ScriptedMemory(self._pushed)
        self.enqueued_jobs: list[Recorded] = []
        self.performed_jobs: list[Recorded] = []
        self._ahead = 0.0  # seconds that the clock was moved
        self._performing: Wanted | None = None  # what is performed as soon as it is pushed
        self._raises = False
        self._runs: Counter[str] = Counter()

    def __enter__(self) -> Self:
        stage.enter(self)
        return self

    def __exit__(self, *error: object) -> None:
        stage.leave(self)

    # --- performing ------------------------------------------------------------------------------

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
        As a call: perform the jobs that are in their queues now, and return how many attempts that were. Jobs that
        they enqueue are left for the next call.

            jobs.perform_enqueued_jobs()

        In a `with`: perform each job as soon as it is enqueued, those that it enqueues in turn, too.

            with jobs.perform_enqueued_jobs(only=SendWelcomeEmail):
                client.post("/signup/", ...)

        `only`, `exclude`: a command, or several, or a function of the recorded job; `queue`: jobs of that queue alone.
        Jobs due in the future stay; `at`, an aware datetime, moves the clock there first. Failures are what they are in
        a worker: retries, deaths, discards; with `raise_errors` the first one comes out here, as an AssertionError.
        RuntimeError for a job that would be performed more than 100 times.
        """
        wanted = wanting(only, exclude, queue)
        if at is not None:
            self._move_to(at)
        if is_entered(sys._getframe(1)):
            return self._performing_block(wanted, raise_errors)
        with self._performing_as(None, raise_errors):
            return self._perform(self._ready(wanted))

    def travel(self, to: datetime | timedelta | float) -> int:
        """
        Move the clock to a time, or on by a timedelta or seconds, and perform what has become due. Returns how many
        attempts that were.
        """
        before = {recorded.job.id for recorded in self._ready(lambda _: True)}
        if isinstance(to, datetime):
            self._move_to(to)
        else:
            self._ahead += to.total_seconds() if isinstance(to, timedelta) else to
        due = [r for r in self._ready(lambda _: True) if r.job.id not in before]
        with self._performing_as(None, False):
            return self._perform(due)

    @contextmanager
    def _performing_block(self, wanted: Wanted, raises: bool) -> Iterator[None]:
        with self._performing_as(wanted, raises):
            yield

    @contextmanager
    def _performing_as(self, wanted: Wanted | None, raises: bool) -> Iterator[None]:
        before = self._performing, self._raises, self._runs
        self._performing, self._raises, self._runs = wanted, raises, Counter()
        try:
            yield
        finally:
            self._performing, self._raises, self._runs = before

    def _pushed(self, job_id: str, *, released: bool) -> None:
        job = self._job(job_id)
        due = self.memory.hget(job.key, "due")
        recorded = Recorded.of(job, due=None if due is None else float(due))
        if not released:
            self.enqueued_jobs.append(recorded)
        if self._performing is not None and self._performing(recorded):
            self._perform([recorded])

    def _ready(self, wanted: Wanted) -> list[Recorded]:
        """What is in the queues now, in the order in which a worker would take it."""
        self.memory.promote()
        ids = [member.decode() for queue in conf.queues() for member in self.memory.lists[queue_key(queue)]]
        return [recorded for recorded in (Recorded.of(self._job(job_id)) for job_id in ids) if wanted(recorded)]

    def _perform(self, chosen: list[Recorded]) -> int:
        attempts = 0
        for recorded in chosen:
            job_id = recorded.job.id
            if self.memory.hget(recorded.job.key, "status") != b"queued":
                continue  # another attempt has cancelled or deleted it
            self._runs[job_id] += 1
            if self._runs[job_id] > MOST_RUNS:
                raise RuntimeError(f"{recorded} was performed {MOST_RUNS} times and is still not done (job {job_id}).")
            attempts += 1
            self._attempt(recorded)
        return attempts

    def _attempt(self, recorded: Recorded) -> None:
        claim = self.memory.claim(recorded.job.id)
        self.performed_jobs.append(recorded)
        claim.started = begun = time.monotonic()
        outcome, command = execution.attempt(claim, Interruptible())
        self.memory.commit(claim, outcome, command, time.monotonic() - begun)
        if self._raises and isinstance(outcome, Retried | Dead):
            raise AssertionError(f"{recorded} failed: {outcome.reason}\n{outcome.traceback}")

    def _job(self, job_id: str) -> MandateJob:
        return MandateJob.fetch(job_id, connection=self.memory)  # type: ignore[arg-type, return-value]

    def _move_to(self, at: datetime) -> None:
        self._ahead += at.timestamp() - seams.now()

    def now(self) -> float:
        """The time of this test, in seconds since the epoch."""
        return time.time() + self._ahead
