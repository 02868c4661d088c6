"""
What a worker does to the jobs of one test, by the scripts that it runs on a server; and the notes that the kit alone
needs: which jobs were pushed, and when each was due.

`tests/jobs/testing/test_scenarios.py` runs against the kit and against a server.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from jobs import conf, control, queues, runtime
from jobs.attempts.claim import Claim, rows
from jobs.attempts.outcomes import LeftOff, Outcome, Postponed, Requeued, Retried
from jobs.batches import record as batches
from jobs.broker import keys
from jobs.broker.connections import Script, Word
from jobs.broker.times import UNSEEN, as_text, iso
from jobs.inspection.attempt_counts import COUNTS_KEPT
from jobs.record import prerequisites
from jobs.testing.lua import interpreter
from jobs.testing.memory import Memory, bytes_of
from jobs.worker.commit import Handed, encode_outcome, words
from jobs.worker.lanes import _LANES
from jobs.worker.lanes import SLICE as LANES
from jobs.worker.promotion import _PROMOTE
from jobs.worker.promotion import SLICE as PROMOTED
from jobs.worker.recovery import recover
from jobs.worker.release import _RELEASE
from jobs.worker.release import SLICE as RELEASED
from jobs.worker.steps import _STEP, StepAnswer

WORKER = "testing"


class Pushed(Protocol):
    def __call__(self, job_id: str, *, counts: bool) -> None: ...


class ScriptedMemory(Memory):
    """
    Jobs that can be written, claimed and committed. Raises MissingExtraError without lupa.

    `pushed(job id, counts=...)` is called when a job was written, requeued or retried, which counts as a push; and when
    its prerequisites have released it, or it was put off, which does not. `collapsed(job id)` is called when a new job
    has collapsed into this one. `perform(job id)` performs what is due until that job has ended, for `job.wait`.
    """

    def __init__(self, pushed: Pushed, collapsed: Callable[[str], None], perform: Callable[[str], None]) -> None:
        super().__init__()
        self._pushed, self._collapsed = pushed, collapsed
        self.perform_until_ended = perform
        self._interpreter = interpreter()
        self._executions = 0
        self._dues: dict[str, float] = {}  # when the jobs in the queues were due, in seconds since the epoch

    def run(self, script: Script, places: Sequence[Word], arguments: Sequence[Word]) -> Any:
        """Run a script as a server does; the same arguments, the same answer. Then note what was pushed."""
        self._reach()
        new = self._new(arguments) if script is queues._PUSH else []
        answer = self._run_script(script, places, arguments)
        for job_id in new:
            if self.exists(keys.job(job_id)):
                self._note(job_id, counts=True, due=self._wanted(job_id))
        if script is queues._PUSH:
            for holder in {as_text(holder) for _, holder in answer}:
                if self.hexists(keys.job(holder), "collapsed"):
                    self._collapsed(holder)
        if script is prerequisites._LINK:
            self._note_started(answer[1])
        if script is control._CHANGE:
            _, first, what, *_ = arguments
            changed = map(str, [first, *arguments[13:]])
            for changed_id, outcome, status in zip(changed, answer[::2], answer[1::2], strict=True):
                if what == "queue" and outcome == b"done":
                    due = self._dues.get(changed_id) if status == b"queued" else None
                    self._note(changed_id, counts=True, due=due)
            self._release()
        if script is batches._BATCH:
            self._release()
        return answer

    def due(self, job_id: str) -> float | None:
        """Return when a job is due, or was before it was put into its queue. A server forgets it by then."""
        queue = self.hget(keys.job(job_id), "origin")
        score = None if queue is None else self.zscore(keys.registry("scheduled", as_text(queue)), job_id)
        return self._dues.get(job_id) if score is None else score

    def next_due(self, *, after: float) -> float | None:
        """Return when the next job becomes due after that time, in seconds since the epoch; None without one."""
        found = [self._in_order("scheduled", name, f"({after!r}", "+inf", "LIMIT", 0, 1) for name in conf.queues()]
        lanes = self._ask("ZRANGEBYSCORE", keys.LIMITS_DUE, f"({after!r}", "+inf", "WITHSCORES", "LIMIT", 0, 1)
        dues = [score for pairs in found for score in pairs.values()] + [float(score) for score in lanes[1::2]]
        return min(dues, default=None)

    def waiting(self) -> Iterator[str]:
        """The jobs that wait for prerequisites."""
        for name in conf.queues():
            yield from self._in_order("deferred", name, "-inf", "+inf")

    # --- as a worker -----------------------------------------------------------------------------

    def claim(self, job_id: str) -> Claim | None:
        """Take a queued job; None if its limits do not admit it now: then it waits for them, or is discarded."""
        queue = keys.queue(as_text(self.hget(keys.job(job_id), "origin") or b""))
        if self.lrange(queue, 0, 0) != [job_id.encode()]:  # a worker takes the first
            self._ask("LREM", queue, 1, job_id)
            self._ask("LPUSH", queue, job_id)
        self._ask("ZADD", keys.ALIVE, repr(runtime.now()), WORKER)
        row: Any = self._step([queue], wanted=1).rows
        return Claim(rows(row)[0]) if row else None

    def commit(self, claim: Claim, outcome: Outcome, command: str, seconds: float) -> None:
        """Write what an attempt ended as, if the claim is still held. RuntimeError for one that cannot be written."""
        answer = self._step([], Handed(claim, encode_outcome(claim, outcome, command, seconds)))
        if answer.failed:
            raise RuntimeError(f"The outcome of job {claim.job_id} cannot be written: {as_text(answer.failed[0][1])}")
        if answer.refused:
            return  # it was cancelled while it ran
        if isinstance(outcome, Retried | Requeued | Postponed | LeftOff):
            self._note(claim.job_id, counts=not isinstance(outcome, Postponed | LeftOff))
        self._release()

    def lose(self, claim: Claim) -> None:
        """Give a claim back as that of a worker that has died."""
        recover(_AsWire(self), claim.queue_name, only=WORKER)  # type: ignore[arg-type]
        self._note(claim.job_id, counts=False)

    def promote(self) -> None:
        """Put the jobs that have become due into their queues, in the order of their times."""
        for name in conf.queues():
            self._dues.update(self._in_order("scheduled", name, "-inf", repr(runtime.now())))
            places = [keys.registry("scheduled", name), keys.queue(name), keys.registry("failed", name)]
            while self._run_script(_PROMOTE, places, [keys.RQ, iso(runtime.now()), PROMOTED]) == PROMOTED:
                pass
        looked_at, at = LANES, 0
        while looked_at == LANES:
            looked_at, *_ = self._run_script(_LANES, [], [keys.RQ, iso(runtime.now()), "", LANES, at])
            at += looked_at

    def _step(self, lists: Sequence[str], *outcomes: Handed, wanted: int = 0) -> StepAnswer:
        now = runtime.now()
        about: list[Word] = [keys.RQ, WORKER, iso(now), repr(now), wanted, self._executions]
        about += (keys.counts(int(now // 60)), COUNTS_KEPT, len(outcomes), UNSEEN, int(conf.get("DEAD_LIMIT")))
        about += (wanted, 1)
        self._executions += wanted
        return StepAnswer(*self._run_script(_STEP, lists, [*about, *words(outcomes)]))

    def _release(self) -> None:
        """Release the jobs that waited for those that have ended."""
        seen: set[bytes] = set()
        while members := [each for each in self._ask("SMEMBERS", keys.RELEASING) if each not in seen]:
            for member in members:  # a batch may complete by one, and release more
                seen.add(member)
                self._release_one(member)

    def _release_one(self, member: bytes) -> None:
        prerequisite, before = member.split(b":", 2)[2], None
        while True:
            about: list[Word] = [keys.RQ, prerequisite, RELEASED, iso(runtime.now())]
            left, started = self._run_script(_RELEASE, [member], about)
            self._note_started(started)
            if left in (0, before):
                break
            before = left

    # --- notes -----------------------------------------------------------------------------------

    def _new(self, arguments: Sequence[Word]) -> list[str]:
        """Return the jobs of push.lua's arguments that are not written yet."""
        ids, at = [], 3
        while at < len(arguments):
            ids.append(str(arguments[at]))
            at += 5 + 2 * int(arguments[at + 4])
        return [job_id for job_id in dict.fromkeys(ids) if not self.exists(keys.job(job_id))]

    def _note_started(self, job_ids: Sequence[bytes]) -> None:
        for job_id in job_ids:
            self._note(as_text(job_id), counts=False, due=self._wanted(as_text(job_id)))

    def _note(self, job_id: str, *, counts: bool, due: float | None = None) -> None:
        """Note a push. `due`: when the job was due that is in its queue."""
        self._dues.pop(job_id, None)
        if due is not None:
            self._dues[job_id] = due
        self._pushed(job_id, counts=counts)

    def _wanted(self, job_id: str) -> float | None:
        """Return until when a job was to wait that waits for prerequisites, or has waited for them."""
        due = self.hget(keys.job(job_id), "due")
        return None if due is None else float(due)

    def _in_order(self, kind: str, queue: str, least: str, most: str, *options: Word) -> dict[str, float]:
        """Return the jobs of a registry with a score between those bounds, in order, with their scores."""
        found = self._ask("ZRANGEBYSCORE", keys.registry(kind, queue), least, most, "WITHSCORES", *options)
        return {as_text(member): float(score) for member, score in zip(found[::2], found[1::2], strict=True)}

    def _run_script(self, script: Script, places: Sequence[Word], arguments: Sequence[Word]) -> Any:
        keys, words = list(map(bytes_of, places)), list(map(bytes_of, arguments))
        return self._interpreter.run(script, self._server.commands, keys, words)


class _AsWire:
    """The part of a worker's wire that recovery uses."""

    def __init__(self, memory: ScriptedMemory) -> None:
        self._memory = memory

    def run(self, script: Script, places: Sequence[Word], *arguments: Word) -> Any:
        """Run a script, as `Wire.run` does."""
        return self._memory._run_script(script, places, arguments)
