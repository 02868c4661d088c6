"""Taking work: threads fetch for themselves, and hand over what they have done in the same step."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from threading import get_ident

from redis.exceptions import ResponseError

from jobs import conf
from jobs.attempts.claim import Claim
from jobs.attempts.outcomes import GivenBack
from jobs.broker import keys
from jobs.safe_logging import safe_logger
from jobs.worker.commit import Handed
from jobs.worker.connection import CONNECTION_ERRORS, Wire
from jobs.worker.doorbell import Doorbell
from jobs.worker.doormen import Place
from jobs.worker.last_look import LastLook
from jobs.worker.pace import Pace
from jobs.worker.scoreboard import Board
from jobs.worker.settings import drawn
from jobs.worker.steps import Steps
from jobs.worker.wanted import Wanted

logger = safe_logger("jobs.worker")

LONG, SOON = 30.0, 0.5  # seconds at the doorbell, at most; soon where nothing rings: at a resume, or a burst's end
LONGEST_WAIT = 5.0  # seconds between attempts to reach a server that is away
OVERDUE = 0.001  # seconds after which a leader's job no longer keeps the next thread waiting


class Fetch:
    """
    Where the threads of one worker get their work.

    `take` returns one claim. If none is ready, the calling thread makes one step: it commits all that is done, and
    claims as many jobs as threads are idle (more, while jobs are short). If there is none then either, it waits at the
    doorbell; the others wait behind it.

    While jobs are so quick that threads only take the interpreter's lock from each other, and the queues have more of
    them, one thread *leads*: it alone takes claims, and when few are left it sends the next step and goes on with them,
    so that the server works meanwhile. The other threads follow: the first of them takes the lead when the leader's job
    has not come back in a millisecond.
    """

    def __init__(
        self,
        worker: str,
        queues: Mapping[str, int | None],
        *,
        threads: int,
        board: Board,
        blocks: bool,
        release: Callable[[bytes], bool],
        burst: bool = False,
        max_jobs: int | None = None,
    ) -> None:
        """
        `queues` in the order of their priority; with weights, in an order drawn by weight each time. `release(member)`
        lets those go on that waited for a job which has ended: a member of `jobs:releasing`; see LastLook.
        """
        self.stopping = self._quiet = False
        self.pace = Pace(conf.batch())
        self._queues, self._threads, self._board = dict(queues), threads, board
        self._burst = burst
        self._weighted = any(weight is not None for weight in queues.values())
        self._wire = Wire(next(iter(queues)))
        self._steps = Steps(worker, self._wire, list(queues), max_jobs=max_jobs)
        self._last_look = LastLook(self._wire, release)
        self._ready, self.held, self.commits = self._steps.ready, self._steps.held, self._steps.commits
        place = Place(worker, queues, threads)
        self._doorbell = Doorbell({name: keys.queue(name) for name in queues}, blocks=blocks, place=place)
        self._using_wire, self._at_the_door, self._behind_leader = (threading.Lock() for _ in range(3))
        self._leader = 0  # the thread that leads; 0: each takes for itself
        self._latest: Claim | None = None  # the last one that a thread has taken
        self._stopped = threading.Event()
        self._wait = self._doorbell_pause = 0.0  # seconds before the next step, or wait at the doorbell, after an error

    # --- for the threads -------------------------------------------------------------------------

    def take(self) -> Claim | None:
        """The next job for the calling thread, waiting until there is one; None when it is time to leave."""
        while True:
            if self._leader:
                if self._leader != get_ident():
                    self._follow()
                elif len(self._ready) <= max(self.pace.batch, self._threads) // 2 and not self._steps.is_bounded:
                    self._send_ahead()
            try:
                self._latest = claim = self._ready.popleft()
                return claim
            except IndexError:
                pass
            if self._look():
                continue
            if self.stopping:
                return None
            self._await_work()

    def _look(self, *, for_tasks: bool = False) -> bool:
        """Make a step, unless another thread has just claimed for us. Whether it is worth looking again at once."""
        with self._using_wire:
            self._board.turn()
            if self._ready and not for_tasks:
                return True
            due = self._steps.lanes_due
            try:
                releasing = self._receive()
                if for_tasks or not self._ready:
                    releasing += self._step(claims=not self.stopping)
                if self._burst and self._steps.may_claim and not self.held and not releasing:
                    releasing = self._last_look.look(self._order(), self.stop)
                self._last_look.begin(releasing)
            except CONNECTION_ERRORS as error:
                self._outage(error)
                return not self.stopping
            self._choose_leader()
            found = bool(self._ready) or self._steps.has_more or not self._steps.until_due
        if (found or self._steps.lanes_due < due) and self._at_the_door.locked():
            self._doorbell.ring()
        self._leave_door_if_busy()
        self._last_look.release(releasing)
        return found or (self._burst and bool(releasing))  # who waited may be in a queue now

    def _await_work(self) -> None:
        with self._at_the_door:
            if not (self._ready or self._leader or self.stopping):
                self._wait_at_door()

    def _wait_at_door(self) -> None:
        try:
            queues = self._order()
            most = SOON if self._burst or len(queues) < len(self._queues) else LONG
            self._doorbell.wait(queues, min(most, self._steps.until_due), claims=self._steps.may_claim)
            self._doorbell_pause = 0.0
        except CONNECTION_ERRORS as error:
            self._ask_anew(error)
        self._leave_door_if_busy()  # a step may have filled this worker since it came to the door

    def _leave_door_if_busy(self) -> None:
        """Once no thread is left to come to the door, let other workers watch the queues."""
        if self._doorbell.is_expected and (self.stopping or not self._has_idle):
            self._doorbell.leave(self._order())

    def _ask_anew(self, error: BaseException) -> None:
        """The doorbell is out of order, or refused by a server (a replica, a full one): ask for work now and then."""
        if isinstance(error, ResponseError) and self._doorbell_pause == 0.0:
            logger.warning("cannot wait for work, asking for it now and then: %s", error)
        self._doorbell_pause = min(max(0.05, self._doorbell_pause * 2), LONGEST_WAIT)
        with self._using_wire:
            self._steps.hang_up()  # Sentinel may know a better server by now
            self._last_look.is_in_doubt = True
        self._stopped.wait(self._doorbell_pause)

    # --- leader and followers --------------------------------------------------------------------

    def _choose_leader(self) -> None:
        """After each step: the thread that made it leads on while jobs are quick and the queues have more of them."""
        leads = self.pace.is_quick and self._steps.is_full and not self.stopping
        self._leader = (self._leader or get_ident()) if leads else 0

    def _follow(self) -> None:
        """Wait while another thread leads. Take the lead when its job does not come back: claims wait behind it."""
        with self._behind_leader:
            while (leader := self._leader) and not self.stopping:
                latest = self._latest
                time.sleep(OVERDUE)
                is_overdue = self._latest is latest and not self._using_wire.locked()
                if is_overdue and self._leader == leader:
                    self._leader = get_ident()
                    break

    def _send_ahead(self) -> None:
        """Send the next step while there are claims here. Waits for nothing; after an error the next step does it."""
        if not self._steps.may_go_ahead or not self._using_wire.acquire(blocking=False):
            return
        try:
            if self._steps.may_go_ahead and not self.stopping and not self._quiet:
                self._steps.send(self._order(), self._room, only_to_claim=True)
        except CONNECTION_ERRORS:
            self._send_less()
        finally:
            self._using_wire.release()

    # --- one step --------------------------------------------------------------------------------

    def _step(self, *, claims: bool) -> list[bytes]:
        """
        A whole step, sent and answered, after the answer of one in flight. Returns the members of `jobs:releasing` for
        jobs that have ended. The caller holds the wire; nothing is lost with redis-py's errors.
        """
        releasing = self._receive()
        self._steps.send(self._order() if claims else [], self._room)
        return releasing + self._receive()

    def _receive(self) -> list[bytes]:
        """The answer of the step in flight, if there is one. Returns what is to be released."""
        answer = self._steps.receive()
        if answer is None:
            return []
        self._wait = 0.0
        if self._steps.jobs_left is not None and self._steps.jobs_left <= 0:
            self.stop()
        if (answer.failed and not answer.rows) or not answer.is_registered:
            # A full server, or one on which our parent has yet to beat: neither mends by asking again at once.
            self._stopped.wait(0.25)
        return answer.releasing

    def _room(self, outcomes: Sequence[Handed]) -> Wanted:
        return self._wanted(len(self.held) - len(outcomes))

    def _wanted(self, held: int, tasks: int | None = None) -> Wanted:
        """What to claim beside jobs that threads hold: a job for each idle one, or what a batch of short ones lacks."""
        idle = self._threads - held
        return Wanted(max(idle, self.pace.batch - len(self._ready)) if self.pace.batch > 1 else idle, idle, tasks)

    def _order(self) -> list[str]:
        if self._quiet:
            return []
        queues = [name for at, name in enumerate(self._queues) if not self._board.is_paused(at)]
        return drawn(queues, self._queues) if self._weighted else queues

    def _outage(self, error: BaseException) -> None:
        self._leader = 0
        self._send_less()
        if self._wait == 0.0:
            logger.warning("no answer from Redis, waiting for it: %s", error)
        self._wait = min(max(0.05, self._wait * 2), LONGEST_WAIT)
        self._stopped.wait(self._wait)

    def _send_less(self) -> None:
        self._last_look.is_in_doubt = True
        if job_id := self._steps.lost():
            logger.error("the server does not take the outcome of job %s: its result or log is left out", job_id)

    # --- for the child's main thread -------------------------------------------------------------

    @property
    def _has_idle(self) -> bool:
        return len(self.held) < self._threads

    @property
    def has_ready(self) -> bool:
        """Whether claims lie here that no thread has begun, or an answer that nobody waits for may bring some."""
        return bool(self._ready) or (self._steps.in_flight and not self._using_wire.locked())

    def give_back(self) -> None:
        """Return the claims that no thread has begun to the heads of their queues, those of an unread answer too."""
        self._commit(self._receive)
        with suppress(IndexError):
            while True:  # the last first, so that the first ends at the head
                self.commits.add(self._ready.pop(), GivenBack(), "", 0.0)
        self.flush()

    def forget(self, job_id: str, execution: str = "") -> set[Claim]:
        """Drop a cancelled job's claim that no thread has begun. Returns those that were begun; see `Steps.forget`."""
        begun = self._steps.forget(job_id, execution)
        if self.commits:  # the slots of what was dropped
            self._doorbell.ring()
        return begun

    def flush(self) -> bool:
        """Commit what is done, claim nothing. Whether all of it is written now."""
        return self._commit(lambda: self._step(claims=False))

    def _commit(self, call: Callable[[], list[bytes]]) -> bool:
        with self._using_wire:
            try:
                releasing = call()
                self._last_look.begin(releasing)
            except CONNECTION_ERRORS as error:
                self._send_less()
                logger.warning("could not commit what is done yet: %s", error)
                return False
        self._last_look.release(releasing)
        return self._steps.is_all_written

    def put_back_running(self) -> None:
        """Put the jobs that outlive this process at the heads of their queues. Raises redis-py's errors."""
        with self._using_wire:
            self._steps.put_back_running(self._board.begun())

    def leave_door(self) -> None:
        """Let an idle worker watch the queues in the place of this one, which runs long jobs."""
        if self._doorbell.may_be_relieved:
            self._doorbell.leave(self._order())

    def quiet(self) -> None:
        """Take nothing more, but stay. When the call returns, no step that might claim is under way."""
        self._quiet = True
        self._doorbell.ring()
        self.give_back()

    def stop(self) -> None:
        """Take nothing more: `take` returns None to each thread once what it did is committed."""
        self.stopping = True
        self._stopped.set()
        self._doorbell.ring()
