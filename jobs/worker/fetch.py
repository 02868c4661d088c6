"""Taking work: threads fetch for themselves, one at a time, and hand over what they have done in the same call."""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from jobs import conf, runtime
from jobs.attempts.claim import Claim
from jobs.attempts.outcomes import GivenBack
from jobs.broker import keys
from jobs.broker.connections import Script, Word
from jobs.broker.times import UNSEEN, as_text, iso
from jobs.inspection.attempt_counts import COUNTS_KEPT
from jobs.safe_logging import safe_logger
from jobs.worker.commit import Commits, Handed
from jobs.worker.connection import UNREACHABLE, Wire
from jobs.worker.doorbell import Doorbell
from jobs.worker.doormen import Place
from jobs.worker.parcels import Parcels
from jobs.worker.recovery import NONE, recover
from jobs.worker.scoreboard import Board

logger = safe_logger("jobs.worker")

LONG, SOON = 30.0, 0.5  # seconds at the doorbell, at the most
LONGEST_WAIT = 5.0  # seconds between attempts to reach a server that is away
RECONCILE_EVERY = 30.0  # seconds between looks for claims in our name that we know nothing of
CONNECTION_ERRORS = (*UNREACHABLE, ResponseError)

_STEP = Script("shared.lua", "step.lua")


class StepAnswer(NamedTuple):
    """The answer of `step.lua`, in its order."""

    refused: list[tuple[int, bytes, bytes]]  # positions of outcomes whose claim was lost, the new holder, the status
    failed: list[tuple[int, bytes]]  # positions of outcomes that could not be written, and why
    releasing: list[bytes]  # members of `jobs:releasing`
    rows: list[list[Any]]  # the new claims
    is_registered: int  # whether this worker counts as alive
    trimmed: int  # dead jobs over DEAD_LIMIT that were removed


class Fetch:
    """
    Where the threads of one worker get their work.

    `take` returns one claim. Whoever finds none ready makes one step: it commits everything that is done and claims as
    many jobs as threads are idle (a batch, while jobs are short). Whoever then still finds none waits at the doorbell;
    the others wait behind that one. A claim is in `held` from the answer that brought it to the one that committed it.
    """

    def __init__(
        self,
        worker: str,
        queues: Mapping[str, int | None],
        *,
        threads: int,
        board: Board,
        blocks: bool,
        release: Callable[[bytes], object],
        burst: bool = False,
        max_jobs: int | None = None,
    ) -> None:
        """
        `queues` in the order of their priority; with weights, in an order drawn by weight each time. `release(member)`
        lets those go on that waited for a job which has ended: a member of `jobs:releasing`.
        """
        self.stopping = False
        self.short_jobs = False  # whether to claim batches; the child decides
        self.held: dict[bytes, Claim] = {}
        self.commits = Commits()
        self._worker, self._queues, self._threads, self._board = worker, dict(queues), threads, board
        self._burst, self._jobs_left, self._release = burst, max_jobs, release
        self._batch, self._dead_limit = conf.batch(), int(conf.get("DEAD_LIMIT"))
        self._weighted = any(weight is not None for weight in queues.values())
        self._wire = Wire(next(iter(queues)))
        place = Place(worker, queues, threads)
        self._doorbell = Doorbell({name: keys.queue(name) for name in queues}, blocks=blocks, place=place)
        self._ready: deque[Claim] = deque()
        self._using_wire = threading.Lock()
        self._at_the_door = threading.Lock()
        self._stopped = threading.Event()
        self._unsent: list[Handed] = []
        self._has_more = False  # whether more is done than went into the last step
        self._again: set[bytes] = set()  # executions of those that have been sent before
        self._is_sending = False
        self._parcels = Parcels()
        self._in_doubt = False  # whether an answer was lost, so that Redis may hold claims we know nothing of
        self._reconcile_at = 0.0  # monotonic seconds
        self._executions = 0  # the number of the next one; none is used twice
        self._quiet = False
        self._may_claim = True  # whether the last step found us among the living
        self._wait = self._doorbell_pause = (
            0.0  # seconds before the next step, the next wait at the doorbell, after an error
        )

    # --- for the threads -------------------------------------------------------------------------

    def take(self) -> Claim | None:
        """The next job for the calling thread, waiting until there is one; None when it is time to leave."""
        while True:
            try:
                return self._ready.popleft()
            except IndexError:
                pass
            if self._look():
                continue
            if self.stopping:
                return None
            self._await_work()

    def _look(self) -> bool:
        """Make a step, unless another thread has just claimed for us. Whether it is worth looking again at once."""
        with self._using_wire:
            self._board.turn()
            if self._ready:
                return True
            try:
                releasing = self._step(claims=not self.stopping)
            except CONNECTION_ERRORS as error:
                self._outage(error)
                return not self.stopping
            if self._burst and self._may_claim and not self.held and not releasing:
                self.stop()
            found = bool(self._ready) or self._has_more
        if found and self._at_the_door.locked():
            self._doorbell.ring()
        self._leave_door_if_busy()
        for member in releasing:
            self._release(member)
        return found

    def _await_work(self) -> None:
        with self._at_the_door:
            if self._ready or self.stopping:
                return
            try:
                queues = self._order()
                # Nobody rings when a queue is resumed: while one is paused, look again soon.
                limit = LONG if len(queues) == len(self._queues) else SOON
                self._doorbell.wait(queues, limit, claims=self._may_claim)
                self._doorbell_pause = 0.0
            except CONNECTION_ERRORS as error:
                self._ask_anew(error)
            self._leave_door_if_busy()  # a step may have filled this worker since it came to the door

    def _leave_door_if_busy(self) -> None:
        """Once no thread is left to come to the door, let other workers watch the queues."""
        if self._doorbell.is_expected and (self.stopping or len(self.held) >= self._threads):
            self._doorbell.leave(self._order())

    def _ask_anew(self, error: BaseException) -> None:
        """
        The doorbell is out of order: work is asked for, but not all the time. Where the connection was lost, the next
        step finds out; a server that answers, and refuses (a replica, a full one), says so to the doorbell alone.
        """
        if isinstance(error, ResponseError) and self._doorbell_pause == 0.0:
            logger.warning("cannot wait for work, asking for it now and then: %s", error)
        self._doorbell_pause = min(max(0.05, self._doorbell_pause * 2), LONGEST_WAIT)
        with self._using_wire:
            self._wire.close()  # Sentinel may know a better server by now
        self._stopped.wait(self._doorbell_pause)

    # --- one step --------------------------------------------------------------------------------

    def _step(self, *, claims: bool) -> list[bytes]:
        """
        Commit what is done and claim what there is room for. Returns what is to be released: members of
        `jobs:releasing`, for those that waited for jobs which have ended.

        The caller holds the wire, and hears of redis-py's errors; nothing is lost with them.
        """
        self._is_sending = False
        if self._in_doubt or time.monotonic() > self._reconcile_at:
            self._reconcile()
        waiting = self._unsent + self.commits.take()
        outcomes = self._parcels.fill(waiting)
        again = self._again
        words: list[Word] = []
        for handed in outcomes:
            words += handed.encoded.words()
        want = self._room(len(outcomes)) if claims and not self._quiet else 0
        now, first = runtime.now(), self._executions
        self._executions += want
        self._unsent, self._is_sending, self._in_doubt = waiting, True, True  # until the answer is here
        self._again = again | {handed.claim.execution for handed in outcomes}
        answer = self._wire.run(
            _STEP,
            [keys.queue(name) for name in self._order()] if want else [],
            *(keys.RQ, self._worker, iso(now), repr(now), want, first),
            *(keys.counts(int(now // 60)), COUNTS_KEPT, len(outcomes), UNSEEN),
            self._dead_limit,
            *words,
        )
        step = StepAnswer(*answer)
        self._in_doubt, self._wait, self._may_claim = False, 0.0, bool(step.is_registered)
        self._unsent, self._is_sending = waiting[len(outcomes) :], False
        self._parcels.arrived()
        for handed in outcomes:
            self.held.pop(handed.claim.execution, None)
        for position, worker, status in step.refused:
            if outcomes[position].claim.execution not in again:  # else it may have been written the first time
                self._tell_refused(outcomes[position].claim.job_id, as_text(worker), as_text(status))
        for position, error in step.failed:
            handed = outcomes[position]
            if handed.claim.execution not in again:  # once is enough
                logger.error("could not write the outcome of job %s yet: %s", handed.claim.job_id, as_text(error))
            self.held[handed.claim.execution] = handed.claim
        failed = [outcomes[position] for position, _ in step.failed]
        self._has_more = bool(self._unsent)
        self._unsent += failed
        self._again = {handed.claim.execution for handed in failed}
        for row in step.rows:
            claim = Claim(row)
            self.held[claim.execution] = claim
            self._ready.append(claim)
        self._executions = first + len(step.rows)
        if self._jobs_left is not None:
            self._jobs_left -= len(step.rows)
            if self._jobs_left <= 0:
                self.stop()
        if any(error.startswith(b"READONLY") for _, error in step.failed):
            self._wire.close()  # Sentinel may know a better server by now
        if (step.failed and not step.rows) or not step.is_registered:
            # A full server, or one on which our parent has yet to beat: neither mends by asking again at once.
            self._stopped.wait(0.25)
        if step.trimmed:
            logger.warning("%d dead jobs were too many (JOBS['DEAD_LIMIT']): the oldest are gone", step.trimmed)
        return step.releasing

    def _tell_refused(self, job_id: str, worker: str, status: str) -> None:
        if status == "canceled":
            logger.info("refused late result of job %s: it was cancelled", job_id)
        else:
            logger.warning("refused late result of job %s: taken over by %s", job_id, worker or "nobody yet")

    def _room(self, done: int) -> int:
        """How many jobs to claim: no more than threads are idle, or a batch while jobs are short."""
        room = self._threads - (len(self.held) - done)
        if self.short_jobs:
            room = max(room, self._batch)
        if self._jobs_left is not None:
            room = min(room, self._jobs_left)
        return max(room, 0)

    def _order(self) -> list[str]:
        if self._quiet:
            return []
        queues = [name for at, name in enumerate(self._queues) if not self._board.is_paused(at)]
        if not self._weighted:
            return queues
        # Weighted order without replacement: the largest of random ** (1 / weight) first (Efraimidis and Spirakis,
        # "Weighted random sampling with a reservoir", 2006).
        return sorted(queues, key=lambda name: -(random.random() ** (1 / (self._queues[name] or 1))))

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

    def _outage(self, error: BaseException) -> None:
        self._send_less()
        if self._wait == 0.0:
            logger.warning("no answer from Redis, waiting for it: %s", error)
        self._wait = min(max(0.05, self._wait * 2), LONGEST_WAIT)
        self._stopped.wait(self._wait)

    def _send_less(self) -> None:
        self._wire.close()
        if self._is_sending and (job_id := self._parcels.failed(self._unsent, self._answers)):
            logger.error("the server does not take the outcome of job %s: its result or log is left out", job_id)

    def _answers(self) -> bool:
        try:
            return bool(self._wire.call("PING"))
        except CONNECTION_ERRORS:
            return False

    # --- for the child's main thread -------------------------------------------------------------

    @property
    def has_ready(self) -> bool:
        """Whether claims lie here that no thread has begun."""
        return bool(self._ready)

    def give_back(self) -> None:
        """Return the claims that no thread has begun to the heads of their queues."""
        while self._ready:
            try:
                claim = self._ready.pop()  # the last first, so that the first ends at the head
            except IndexError:
                break
            self.commits.add(claim, GivenBack(), "", 0.0)
        self.flush()

    def forget(self, job_id: str, execution: str = "") -> set[Claim]:
        """
        Drop a claim that no thread has begun: the job was cancelled, and Redis has forgotten the claim, too. Returns
        those that a thread has begun. Without an execution: whichever of the job is here.
        """
        begun = set()
        for claim in list(self.held.values()):
            if claim.job_id == job_id and execution in {"", as_text(claim.execution)}:
                try:
                    self._ready.remove(claim)
                    self.held.pop(claim.execution, None)
                except ValueError:  # a thread has it
                    begun.add(claim)
        return begun

    def flush(self) -> bool:
        """Commit what is done, claim nothing. Whether all of it is written now."""
        with self._using_wire:
            try:
                releasing = self._step(claims=False)
            except CONNECTION_ERRORS as error:
                self._send_less()
                logger.warning("could not commit what is done yet: %s", error)
                return False
        for member in releasing:
            self._release(member)
        return not self._unsent and not self.commits

    def put_back_running(self) -> None:
        """
        Put the jobs that still run back at the heads of their queues: this process ends before they do. None of them
        is suspect. Raises redis-py's errors.
        """
        with self._using_wire:
            for name in self._queues:
                back, _ = recover(self._wire, name, only=self._worker, begun=self._board.begun(), suspects=())
                for job_id, _ in back:
                    logger.warning("interrupted job %s: the worker is stopping", job_id)

    def leave_door(self) -> None:
        """Let an idle worker watch the queues in the place of this one, if there is any; this one runs long jobs."""
        if self._doorbell.may_be_relieved:
            self._doorbell.leave(self._order())

    def quiet(self) -> None:
        """Take nothing more, but stay. When the call returns, no step that might claim is under way."""
        self._quiet = True
        self._doorbell.ring()
        with self._using_wire:  # a step that another thread has begun may still claim
            pass
        self.give_back()

    def stop(self) -> None:
        """Take nothing more: `take` returns None to each thread once what it did is committed."""
        self.stopping = True
        self._stopped.set()
        self._doorbell.ring()
