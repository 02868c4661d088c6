"""
One worker's steps: each commits what is done and claims new jobs, in one call of `step.lua`.

A step is sent; its answer is received later, and meanwhile the threads go on with the jobs that they have. At most one
step is in flight. What went into it counts as unsent until its answer is here, and Redis may hold claims of which this
worker knows nothing: it is *in doubt*. With the answer both are settled. If the answer is lost, both stay true: the
outcomes are sent again, which the fence makes harmless, and the claims are given back before the next step.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, NamedTuple

from jobs import conf, runtime
from jobs.attempts.claim import Claim, rows
from jobs.attempts.outcomes import GivenBack
from jobs.broker import keys
from jobs.broker.connections import Script, Word
from jobs.broker.times import UNSEEN, as_text, iso
from jobs.execution import stopped
from jobs.inspection.attempt_counts import COUNTS_KEPT
from jobs.safe_logging import safe_logger
from jobs.worker.commit import Commits, Handed, words
from jobs.worker.connection import CONNECTION_ERRORS, Wire
from jobs.worker.parcels import Parcels
from jobs.worker.recovery import NONE, recover
from jobs.worker.wanted import NOTHING, Wanted

logger = safe_logger("jobs.worker")

RECONCILE_EVERY = 30.0  # seconds between looks for claims in our name that we know nothing of

_STEP = Script("step.lua")


class StepAnswer(NamedTuple):
    """The answer of `step.lua`, in its order."""

    refused: list[tuple[int, bytes, bytes]]  # positions of outcomes whose claim was lost, the new holder, the status
    failed: list[tuple[int, bytes]]  # positions of outcomes that could not be written, and why
    releasing: list[bytes]  # members of `jobs:releasing`
    rows: list[list[Any]]  # the new claims
    is_registered: int  # whether this worker counts as alive
    trimmed: int  # dead jobs over DEAD_LIMIT that were removed
    due: bytes  # seconds until the next lane is due; 0 to be asked again at once; empty: not looked at
    left: int = 0  # whether jobs were left in place, because their kind has no room


class _Flight(NamedTuple):
    """A step that has been sent."""

    outcomes: list[Handed]
    again: set[bytes]  # executions whose outcome had been sent before
    wanted: Wanted
    first: int  # the number of the first execution
    wakes: bool  # whether it wakes the lanes that are due


class Steps:
    """
    `send`, then `receive`; the caller holds the wire, and hears of redis-py's errors, with which nothing is lost.

    A claim is in `held` from the answer that brought it to the one that committed it, and in `ready` until a thread
    takes it. One for the event loop is in `tasks`, too, and goes to `start_tasks` at once.
    """

    start_tasks: Callable[[list[Claim]], object] | None = None  # None: every claim is for a thread

    def __init__(self, worker: str, wire: Wire, queues: Sequence[str], *, max_jobs: int | None = None) -> None:
        self.commits = Commits()
        self.held: dict[bytes, Claim] = {}
        self.tasks: dict[bytes, Claim] = {}
        self.ready: deque[Claim] = deque()
        self.jobs_left = max_jobs
        self.may_claim = True  # whether the last step found us among the living
        self.has_more = False  # whether more is done than went into the last step
        self.lanes_due = inf  # when the next lane of a limit is due, as far as this worker knows (monotonic seconds)
        self.is_full = False  # whether the last step brought all that it could: the queues have more
        self.is_bounded = False  # whether it brought one for each idle thread alone: the next in the queue has limits
        self.has_left = False  # whether it left jobs in place, because their kind has no room
        self._worker, self._wire, self._queues = worker, wire, queues
        self._dead_limit = int(conf.get("DEAD_LIMIT"))
        self._parcels = Parcels()
        self._unsent: list[Handed] = []
        self._again: set[bytes] = set()  # executions of those that have been sent before
        self._flight: _Flight | None = None
        self._is_sending = False  # whether outcomes are on their way
        self._in_doubt = False  # whether Redis may hold claims that we know nothing of
        self._reconcile_at = 0.0  # monotonic seconds
        self._executions = 0  # the number of the next one; none is used twice
        self._claiming = threading.Lock()  # held while claims come in, and while one is forgotten
        self._forgotten: set[tuple[str, str]] = set()  # what `forget` was asked for while an answer was to come

    @property
    def in_flight(self) -> bool:
        return self._flight is not None

    @property
    def may_go_ahead(self) -> bool:
        """Whether a step can be sent without waiting for anything: nothing is in doubt, nor is it time to reconcile."""
        return not self._in_doubt and self._wire.is_open and time.monotonic() < self._reconcile_at

    @property
    def until_due(self) -> float:
        """Seconds until the next lane of a limit is due, as far as this worker knows."""
        return max(0.0, self.lanes_due - time.monotonic())

    @property
    def is_all_written(self) -> bool:
        return not self._unsent and not self.commits

    # --- there -----------------------------------------------------------------------------------

    def send(
        self, order: Sequence[str], room: Callable[[Sequence[Handed]], Wanted], *, only_to_claim: bool = False
    ) -> None:
        """
        Send what is done, and ask for as many claims as there is `room` for when these outcomes are committed, from the
        queues in this order. Nothing is in flight. With `only_to_claim`, send nothing if there is no room.
        """
        self._is_sending = False
        if self._in_doubt or time.monotonic() > self._reconcile_at:
            self._reconcile()
        waiting = self._unsent + self.commits.take()
        outcomes = self._parcels.fill(waiting)
        wanted = room(outcomes).bounded(self.jobs_left) if order else NOTHING
        if wanted.total == 0 and only_to_claim:
            self._unsent = waiting
            return
        now, wakes = runtime.now(), not self.until_due
        about: list[Word] = [self._worker, iso(now), repr(now), wanted.word, self._executions]
        about += (keys.counts(int(now // 60)), COUNTS_KEPT, len(outcomes), UNSEEN, self._dead_limit)
        about += (wanted.idle, int(wakes))
        flight = _Flight(outcomes, self._again, wanted, self._executions, wakes)
        self._unsent, self._is_sending, self._in_doubt = waiting, True, True  # until the answer is here
        self._again = self._again | {handed.claim.execution for handed in outcomes}
        self._executions += wanted.total
        self._forgotten.clear()
        self._wire.start(
            _STEP,
            [keys.queue(name) for name in order] if wanted.total else [],
            keys.RQ,
            *about,
            *words(outcomes, flight.again),
        )
        self._flight = flight

    def _reconcile(self) -> None:
        """
        Give back what Redis says we hold and we know nothing of: the answer that brought it was lost. A step that we
        gave up waiting for may still arrive after this, so we look now and then. And this may arrive late itself, so it
        leaves alone what we claim from now on.
        """
        runtime.measure(self._wire.call("TIME"))
        for name in self._queues:
            held = list(self.held)
            back, _ = recover(self._wire, name, only=self._worker, begun=NONE, before=self._executions, kept=held)
            for job_id, _ in back:
                logger.info("gave back job %s: the answer that brought it was lost", job_id)
        self._reconcile_at = time.monotonic() + RECONCILE_EVERY

    # --- and back --------------------------------------------------------------------------------

    def receive(self) -> StepAnswer | None:
        """Wait for the answer of the step in flight, and put the new claims into `ready`. None if there is none."""
        flight, self._flight = self._flight, None
        if flight is None:
            return None
        refused, failed, releasing, claims, *rest = self._wire.finish()
        answer = StepAnswer(refused, failed, releasing, rows(claims), *rest)
        self._is_sending = False
        self._settle(flight, answer)
        self._executions = flight.first + len(answer.rows)
        with self._claiming:
            brought = self._take_in([Claim(row) for row in answer.rows])
            self._in_doubt = False
        self.may_claim = bool(answer.is_registered)
        if answer.due:
            self.lanes_due = time.monotonic() + float(answer.due)
        elif flight.wakes:  # a step that did not look leaves what has come due since it was sent to the next one
            self.lanes_due = inf
        self.is_full, self.has_left = 0 < flight.wanted.sure <= brought, bool(answer.left)
        self.is_bounded = self.is_full and brought < flight.wanted.threads
        if any(error.startswith(b"READONLY") for _, error in answer.failed):
            self._wire.close()  # Sentinel may know a better server by now
        if answer.trimmed:
            logger.warning("%d dead jobs were too many (JOBS['DEAD_LIMIT']): the oldest are gone", answer.trimmed)
        return answer

    def _settle(self, flight: _Flight, answer: StepAnswer) -> None:
        """Forget the outcomes that are written or refused, and keep those that failed for the next step."""
        outcomes = flight.outcomes
        self._parcels.arrived()
        for handed in outcomes:
            self.held.pop(handed.claim.execution, None)
            self.tasks.pop(handed.claim.execution, None)
        for position, worker, status in answer.refused:
            if outcomes[position].claim.execution not in flight.again:  # else it may have been written the first time
                _tell_refused(outcomes[position].claim.job_id, as_text(worker), as_text(status))
        for position, error in answer.failed:
            handed = outcomes[position]
            if handed.claim.execution not in flight.again:  # once is enough
                logger.error("could not write the outcome of job %s yet: %s", handed.claim.job_id, as_text(error))
            self._hold(handed.claim)
        failed = [outcomes[position] for position, _ in answer.failed]
        self._unsent = self._unsent[len(outcomes) :]
        self.has_more = bool(self._unsent)
        self._unsent += failed
        self._again = {handed.claim.execution for handed in failed}

    def _take_in(self, claims: list[Claim]) -> int:
        """Distribute the new claims. Returns how many are for threads."""
        for job_id, execution in self._forgotten:
            for claim in [each for each in claims if _is_of(each, job_id, execution)]:
                claims.remove(claim)
                self._drop(claim, execution)
        if self.jobs_left is not None:
            self.jobs_left -= len(claims)
        for claim in claims:
            self._hold(claim)
        if self.start_tasks is not None and (tasks := [claim for claim in claims if claim.is_async]):
            claims = [claim for claim in claims if not claim.is_async]
            self.start_tasks(tasks)
        self.ready.extend(claims)
        return len(claims)

    def _hold(self, claim: Claim) -> None:
        self.held[claim.execution] = claim
        if self.start_tasks is not None and claim.is_async:
            self.tasks[claim.execution] = claim

    # --- when it goes wrong ----------------------------------------------------------------------

    def hang_up(self) -> None:
        """Close the connection. The answer of a step in flight is lost with it."""
        self._flight = None
        self._wire.close()

    def lost(self) -> str:
        """
        A step failed: hang up, and send fewer outcomes the next time. Returns the id of the job whose outcome lost its
        contents, as it alone is what the server does not take; or "".
        """
        self.hang_up()
        return self._parcels.failed(self._unsent, self._answers) if self._is_sending else ""

    def _answers(self) -> bool:
        try:
            return bool(self._wire.call("PING"))
        except CONNECTION_ERRORS:
            return False

    def put_back_running(self, begun: int) -> None:
        """Put the jobs that we hold back at the heads of their queues, none suspect. `begun`: the last execution."""
        for name in self._queues:
            back, _ = recover(self._wire, name, only=self._worker, begun=begun, suspects=())
            for job_id, _ in back:
                logger.warning("interrupted job %s: the worker is stopping", job_id)

    # --- a claim that is no longer ours ----------------------------------------------------------

    def forget(self, job_id: str, execution: str) -> set[Claim]:
        """End a job's claims, or this one, that no thread has begun. Returns those that were. Waits for no answer."""
        with self._claiming:
            if self._in_doubt:
                self._forgotten.add((job_id, execution))
            begun = set()
            for claim in [claim for claim in list(self.held.values()) if _is_of(claim, job_id, execution)]:
                try:
                    self.ready.remove(claim)
                except ValueError:  # a thread has it
                    begun.add(claim)
                else:
                    self._drop(claim, execution)
            return begun

    def _drop(self, claim: Claim, execution: str) -> None:
        """End a claim that is lost, if it is named: its slots are returned; else RQ stops the job, which is dead."""
        self.held.pop(claim.execution, None)
        if not execution:
            self._hold(claim)
            self.commits.add(claim, *stopped(claim), 0.0)
        elif claim.more.limits:
            self.commits.add(claim, GivenBack(), "", 0.0)


def _is_of(claim: Claim, job_id: str, execution: str) -> bool:
    return claim.job_id == job_id and execution in {"", as_text(claim.execution)}


def _tell_refused(job_id: str, worker: str, status: str) -> None:
    if status == "canceled":
        logger.info("refused late result of job %s: it was cancelled", job_id)
    else:
        logger.warning("refused late result of job %s: taken over by %s", job_id, worker or "nobody yet")
