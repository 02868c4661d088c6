"""
The scripts' twins, for one test: what writes jobs on a server is done by Lua, and here by the same steps in memory.

The scenarios in tests/jobs/testing run against both.
"""

import itertools
from collections.abc import Sequence
from typing import Any, Protocol

import orjson
from rq.defaults import RQ_KEY_PREFIX

from jobs import control, queues, seams
from jobs.connections import Script, Word
from jobs.history import iso
from jobs.outcomes import Outcome, Requeued, Retried
from jobs.testing.memory import Memory, bytes_of
from jobs.worker.claim import Claim
from jobs.worker.commit import words

ENDED = {b"finished", b"failed", b"canceled", b"stopped"}
_REGISTRIES = {b"scheduled": "scheduled", b"deferred": "deferred", b"canceled": "canceled", b"finished": "finished"}
_REGISTRIES |= {b"failed": "failed", b"stopped": "failed"}
# What a person's retry forgets of a job.
_FORGOTTEN = ("ended_at", "started_at", "reason", "state", "progress", "interruptions", "expires_at", "due")


class Pushed(Protocol):
    def __call__(self, job_id: str, *, released: bool) -> None: ...


class ScriptedMemory(Memory):
    """
    Jobs that can be written, claimed and committed.

    `pushed(job id, released=...)` is called when a job was written, requeued or retried, and when its prerequisites
    have released it.
    """

    def __init__(self, pushed: Pushed) -> None:
        super().__init__()
        self._pushed = pushed
        self._numbers = itertools.count()

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Word]) -> Any:
        """What a script does, by its twin; the same arguments, the same answer."""
        return {queues._PUSH: self._push, control._CHANGE: self._change}[script](list(arguments))

    def _push(self, arguments: list[Any]) -> list[list[Any]]:
        _, queue, now_iso, now, *rest = arguments
        duplicates, written, position = [], [], 0
        while rest:
            job_id, due, payload, links, extra = rest[:5]
            fields, rest = rest[5 : 5 + 2 * extra], rest[5 + 2 * extra :]
            links = orjson.loads(links) if links else {}
            holder = self._holder(links.get("unique"))
            if holder:
                duplicates.append([position, holder.encode()])
            else:
                if lock := links.get("unique"):
                    self.texts[lock], self.locks[lock] = job_id.encode(), seams.now() + links["unique_ms"] / 1_000
                waits = self._link(job_id, links)
                record = {"created_at": now_iso, "origin": queue, "data": payload, "due": due}
                record |= dict(zip(fields[::2], fields[1::2], strict=True))
                self.hashes[_key(job_id)] = {name: bytes_of(value) for name, value in record.items() if value != ""}
                if waits:
                    self._set(job_id, status="deferred")
                    self.scores[_registry("deferred", queue)][bytes_of(job_id)] = float(now)
                else:
                    self._start(job_id)
                written.append(job_id)
            position += 1
        for job_id in written:
            self._pushed(job_id, released=False)
        return duplicates

    def _link(self, job_id: str, links: dict[str, Any]) -> bool:
        waiting = False
        for prerequisite in links.get("waits", ()):
            status = self.hget(_key(prerequisite), "status")
            forgotten = status is None and prerequisite not in links["sure"]
            if not (status == b"finished" or forgotten or (links["any"] and status in ENDED)):
                self.sadd(f"jobs:waits:{job_id}", prerequisite)
                self.sadd(f"jobs:{'followers' if links['any'] else 'dependents'}:{prerequisite}", job_id)
                waiting = True
        return waiting

    def _holder(self, lock: str | None) -> str | None:
        if not lock or lock not in self.texts or self.locks[lock] <= seams.now():
            return None
        holder = self.texts[lock].decode()
        status = self.hget(_key(holder), "status")
        return holder if status and status not in ENDED else None

    def _change(self, arguments: list[Any]) -> list[bytes]:
        _, job_id, what, now_iso, now, possible, keep, event, reason, end, moved_to = arguments
        record = self.hashes.get(_key(job_id))
        if not record:
            return [b"missing", b""]
        status, queue = record["status"], record["origin"].decode()
        if f",{status.decode()}," not in possible:
            return [b"status", status]
        lock = record.get("unique", b"").decode()
        if what == "queue" and lock:
            holder = self._holder(lock)
            if holder and holder != job_id:
                return [b"held", holder.encode()]
            self.texts[lock] = job_id.encode()
            self.locks[lock] = seams.now() + int(record["unique_ms"]) / 1_000
        self._take_out(job_id, status, queue)
        self.sets.pop(f"jobs:waits:{job_id}", None)
        for prerequisite in orjson.loads(record.get("prereqs", b"[]")):
            self.srem(f"jobs:dependents:{prerequisite}", job_id)
            self.srem(f"jobs:followers:{prerequisite}", job_id)
        if event and what != "delete":
            self._note(job_id, event)
        if what == "delete":
            del self.hashes[_key(job_id)]
            self.streams.pop(f"{RQ_KEY_PREFIX}:results:{job_id}", None)
            self.texts[f"jobs:gone:{job_id}"] = bytes_of(reason)
        elif what == "cancel":
            self._set(job_id, status="canceled", ended_at=now_iso, reason=reason)
            record.pop("state", None)
            self.scores[_registry("canceled", queue)][bytes_of(job_id)] = float(now) + keep
        else:
            for field in _FORGOTTEN:
                record.pop(field, None)
            if moved_to:
                self._set(job_id, origin=moved_to)
            self._start(job_id, at_front=end == "LPUSH")
        if what != "queue":
            self._release(job_id, finished=False)
        else:
            self._pushed(job_id, released=False)
        return [b"done", status]

    # --- what a worker does ----------------------------------------------------------------------

    def claim(self, job_id: str) -> Claim:
        """Take a queued job, as `step.lua` does."""
        record = self.hashes[_key(job_id)]
        queue = record["origin"]
        self.lists[queue_key(queue.decode())].remove(bytes_of(job_id))
        execution = f"testing.{next(self._numbers)}"
        self.scores[_registry("wip", queue.decode())][bytes_of(f"{job_id}:{execution}")] = seams.now()
        self._set(job_id, status="started", started_at=iso(seams.now()), worker_name="testing")
        row: list[Any] = [bytes_of(job_id), queue, execution.encode()]
        row += [record.get(field, b"") for field in ("data", "timeout", "result_ttl", "interruptions")]
        row += [0, *(record.get(field, b"") for field in ("progress", "expires_at"))]
        row += [int("prereqs" in record), record.get("context", b""), record.get("schedule", b"")]
        return Claim(row)

    def commit(self, claim: Claim, outcome: Outcome, command: str, seconds: float) -> None:
        """Write what an attempt ended as, as `step.lua` does."""
        job_id, queue = claim.job_id, claim.queue_name
        _, _, _, kind, when, _, _, result_type, result, began, event, _, _, *fields = words(
            claim, outcome, command, seconds
        )
        member = claim.id + b":" + claim.execution
        if self.scores[_registry("wip", queue)].pop(member, None) is None:
            return  # it was cancelled while it ran
        now, key = seams.now(), _key(job_id)
        record = self.hashes[key]
        record.update(zip(fields[::2], map(bytes_of, fields[1::2]), strict=True))  # type: ignore[arg-type]
        if event:
            self._note(job_id, str(event))
        if result_type:
            entry = {"type": result_type, "worker_name": "testing", "execution_started_at": began}
            entry |= {"execution_ended_at": now, "return_value" if result_type == "1" else "exc_string": result}
            known = {bytes_of(name): bytes_of(value) for name, value in entry.items() if value != ""}
            stream = self.streams[f"{RQ_KEY_PREFIX}:results:{job_id}"]
            stream.append((f"{int(now * 1_000)}-{next(self._numbers)}".encode(), known))
            del stream[:-10]
        match kind:
            case "F":
                self._end(job_id, "finished", queue, now + int(when))
                if not when:
                    del self.hashes[key], self.scores[_registry("finished", queue)][bytes_of(job_id)]
                    self.streams.pop(f"{RQ_KEY_PREFIX}:results:{job_id}", None)
            case "D" | "C":
                if kind == "D":
                    record.pop("progress", None)
                self._end(job_id, "failed" if kind == "D" else "canceled", queue, float(when))
            case "S":
                self._set(job_id, status="scheduled", due=str(when))
                self.scores[_registry("scheduled", queue)][bytes_of(job_id)] = float(when)
            case "T":
                record.pop("due", None)
                self._start(job_id)
            case "W" if self.exists(f"jobs:waits:{job_id}"):
                self._set(job_id, status="deferred")
                self.scores[_registry("deferred", queue)][bytes_of(job_id)] = now
            case "W":
                self._start(job_id)
        if kind in ("F", "D", "C"):
            self._release(job_id, finished=kind == "F")
        elif isinstance(outcome, Retried | Requeued):
            self._pushed(job_id, released=False)

    def promote(self) -> list[str]:
        """Put the jobs that have become due into their queues. Returns their ids, in the order of their times."""
        due = sorted(
            (score, member, key)
            for key, members in self.scores.items()
            if key.startswith(f"{RQ_KEY_PREFIX}:scheduled:")
            for member, score in members.items()
            if score <= seams.now()
        )
        for _, member, key in due:
            del self.scores[key][member]
            self.hashes[_key(member.decode())].pop("due", None)
            self._start(member.decode())
        return [member.decode() for _, member, _ in due]

    def _end(self, job_id: str, status: str, queue: str, until: float) -> None:
        self._set(job_id, status=status, ended_at=iso(seams.now()))
        self.scores[_registry(status, queue)][bytes_of(job_id)] = until

    def _release(self, job_id: str, *, finished: bool) -> None:
        for name in ("dependents", "followers") if finished else ("followers",):
            for member in sorted(self.sets.pop(f"jobs:{name}:{job_id}", ())):
                dependent = member.decode()
                self.srem(f"jobs:waits:{dependent}", job_id)
                if not self.exists(f"jobs:waits:{dependent}") and self.hget(_key(dependent), "status") == b"deferred":
                    queue = self.hashes[_key(dependent)]["origin"].decode()
                    del self.scores[_registry("deferred", queue)][member]
                    self._start(dependent)
                    self._pushed(dependent, released=True)

    def _start(self, job_id: str, *, at_front: bool = False) -> None:
        record = self.hashes[_key(job_id)]
        queue, due = record["origin"].decode(), float(record.get("due", 0))
        if due > seams.now():
            self._set(job_id, status="scheduled")
            self.scores[_registry("scheduled", queue)][bytes_of(job_id)] = due
        else:
            self._set(job_id, status="queued", enqueued_at=iso(seams.now()))
            self.lists[queue_key(queue)].insert(0 if at_front else self.llen(queue_key(queue)), bytes_of(job_id))

    def _take_out(self, job_id: str, status: bytes, queue: str) -> None:
        if status == b"queued":
            self.lists[queue_key(queue)].remove(bytes_of(job_id))
        elif status == b"started":
            claims = self.scores[_registry("wip", queue)]
            for member in [member for member in claims if member.startswith(bytes_of(f"{job_id}:"))]:
                del claims[member]
        else:
            self.scores[_registry(_REGISTRIES[status], queue)].pop(bytes_of(job_id), None)

    def _note(self, job_id: str, event: str) -> None:
        record = self.hashes[_key(job_id)]
        record["history"] = b"\n".join(filter(None, [record.get("history", b""), event.encode()]))

    def _set(self, job_id: str, **fields: str) -> None:
        self.hashes[_key(job_id)].update((name, value.encode()) for name, value in fields.items())


def _key(job_id: str) -> str:
    return f"{RQ_KEY_PREFIX}:job:{job_id}"


def queue_key(name: str) -> str:
    """The list of a queue."""
    return f"{RQ_KEY_PREFIX}:queue:{name}"


def _registry(name: str, queue: str) -> str:
    return f"{RQ_KEY_PREFIX}:{name}:{queue}"
