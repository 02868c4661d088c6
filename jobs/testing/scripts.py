"""
The scripts' twins, for one test: what Lua does on a server is done here by the same steps in memory.

`tests/jobs/testing/test_scenarios.py` runs against both.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import orjson

from jobs import control, queues, runtime
from jobs.attempts.claim import Claim, More, Rare, Row
from jobs.attempts.outcomes import Outcome, Postponed, Requeued, Retried
from jobs.broker import keys
from jobs.broker.connections import Script, Word
from jobs.broker.times import iso
from jobs.testing.memory import Memory, bytes_of
from jobs.worker.commit import encode_outcome

HISTORY = 100  # events kept on a job, as the part `record` has it
_ENDED = {b"finished", b"failed", b"canceled", b"stopped"}
_REGISTRIES = {b"stopped": "failed"}  # by status, where they are not called alike
# What a person's retry forgets of a job. Its due time, too: a server would not look at it.
_FORGOTTEN = ("ended_at", "started_at", "reason", "state", "progress", "interruptions", "expires_at", "due")


class Pushed(Protocol):
    def __call__(self, job_id: str, *, counts: bool) -> None: ...


class ScriptedMemory(Memory):
    """
    Jobs that can be written, claimed and committed.

    `pushed(job id, counts=...)` is called when a job was written, requeued or retried, which counts as a push; and when
    its prerequisites have released it, or it was put off, which does not.
    """

    def __init__(self, pushed: Pushed) -> None:
        super().__init__()
        self._pushed = pushed
        self._numbers = itertools.count()

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Word]) -> Any:
        """What a script does, by its twin; the same arguments, the same answer."""
        return {queues._PUSH: self._push, control._CHANGE: self._change}[script](list(arguments))

    def waiting(self) -> Iterator[str]:
        """The jobs that wait for prerequisites."""
        for key, members in self.scores.items():
            if key.startswith(keys.registry("deferred", "")):
                yield from (member.decode() for member in members)

    # --- push.lua --------------------------------------------------------------------------------

    def _push(self, arguments: list[Any]) -> list[list[Any]]:
        _, queue, now_iso, *rest = arguments
        duplicates, written, position = [], [], 0
        while rest:
            job_id, due, payload, links, extra = rest[:5]
            fields, rest = rest[5 : 5 + 2 * extra], rest[5 + 2 * extra :]
            links = orjson.loads(links) if links else {}
            if self.exists(keys.job(job_id)):
                pass  # it was sent twice
            elif holder := self._holder(links.get("unique")):
                duplicates.append([position, holder.encode()])
            else:
                if lock := links.get("unique"):
                    self._lock(lock, job_id, links["unique_ms"])
                waits = self._link(job_id, links)
                record = {"created_at": now_iso, "origin": queue, "data": payload, "due": due}
                record |= dict(zip(fields[::2], fields[1::2], strict=True))
                if "expires_in" in links:
                    record["expires_at"] = repr((float(due) if due else runtime.now()) + links["expires_in"])
                self.hashes[keys.job(job_id)] = {name: bytes_of(value) for name, value in record.items() if value != ""}
                if waits:
                    self._put(job_id, "deferred", runtime.now())
                elif due != "":
                    self._put(job_id, "scheduled", float(due))
                else:
                    self._enqueue(job_id, at_front=links.get("front", False), now_iso=now_iso)
                written.append(job_id)
            position += 1
        for job_id in written:
            self._pushed(job_id, counts=True)
        return duplicates

    def _link(self, job_id: str, links: dict[str, Any]) -> bool:
        waiting = False
        for prerequisite in links.get("waits", ()):
            status = self.hget(keys.job(prerequisite), "status")
            gone = self.exists(keys.gone(prerequisite)) and not links["any"]
            forgotten = status is None and prerequisite not in links["sure"] and not gone
            if not (status == b"finished" or forgotten or (links["any"] and status in _ENDED)):
                self.sadd(keys.waits(job_id), prerequisite)
                self.sadd((keys.followers if links["any"] else keys.dependents)(prerequisite), job_id)
                waiting = True
        return waiting

    def _unlink(self, job_id: str, record: dict[str, bytes]) -> dict[str, Any]:
        """Let a job wait for nothing. Returns what it has lacked, as `_link` takes it."""
        waits = sorted(member.decode() for member in self.smembers(keys.waits(job_id)))
        self.forget(keys.waits(job_id))
        follows = False
        for prerequisite in orjson.loads(record.get("prereqs", b"[]")):
            self.srem(keys.dependents(prerequisite), job_id)
            follows = bool(self.srem(keys.followers(prerequisite), job_id)) or follows
        return {"waits": waits, "any": follows, "sure": []}

    def _holder(self, lock: str | None) -> str | None:
        holder = (self.get(lock) or b"").decode() if lock else ""
        status = self.hget(keys.job(holder), "status") if holder else None
        return holder if status and status not in _ENDED else None

    def _lock(self, lock: str, job_id: str, milliseconds: int) -> None:
        self.texts[lock], self.ends[lock] = job_id.encode(), runtime.now() + milliseconds / 1_000

    # --- change.lua ------------------------------------------------------------------------------

    def _change(self, arguments: list[Any]) -> list[bytes]:
        _, first, *how = arguments[:11]
        return [word for job_id in (first, *arguments[12:]) for word in self._change_one(job_id, *how)]

    def _change_one(self, job_id: str, *how: Any) -> list[bytes]:
        what, possible, keep, event, reason, end, moved_to, due, now_iso = how
        key, now = keys.job(job_id), runtime.now()
        if (status := self.hget(key, "status")) is None:
            return [b"missing", b""]
        if f",{status.decode()}," not in possible:
            return [b"status", status]
        record = self.hashes[key]
        if what == "due":
            scheduled, member = self.scores[keys.registry("scheduled", record["origin"].decode())], bytes_of(job_id)
            if expires := record.get("expires_at"):
                record["expires_at"] = bytes_of(float(expires) + float(due) - scheduled[member])
            scheduled[member] = float(due)
            self._note(job_id, event)
            return [b"done", status]
        if what == "profile":
            self._set(job_id, profile="1", more="1")
            return [b"done", status]
        if what == "queue" and (lock := record.get("unique", b"").decode()):
            if (holder := self._holder(lock)) not in (None, job_id):
                return [b"held", bytes_of(holder)]
            self._lock(lock, job_id, int(record["unique_ms"]))
        self._take_out(job_id)
        lacked = self._unlink(job_id, record)
        if event and what != "delete":
            self._note(job_id, event)
        if what == "delete":
            self._forget_job(job_id)
            gone = keys.gone(job_id)
            self.texts[gone], self.ends[gone] = bytes_of(reason), now + keep
        elif what == "cancel":
            self._set(job_id, ended_at=now_iso, reason=reason)
            record.pop("state", None)
            if lacked["waits"]:
                record["lacked"] = orjson.dumps(lacked)
            self._put(job_id, "canceled", now + keep)
            self.ends[key] = now + keep
        else:
            if moved_to:
                record["origin"] = moved_to.encode()
            if status != b"queued":
                for field in _FORGOTTEN:
                    record.pop(field, None)
            self.ends.pop(key, None)
            if self._link(job_id, orjson.loads(record.pop("lacked", b"{}"))):
                self._put(job_id, "deferred", now)
            else:
                self._enqueue(job_id, at_front=end == "LPUSH")
        if what == "queue":
            self._pushed(job_id, counts=True)
        else:
            self._release(job_id, finished=False)
        return [b"done", status]

    def _take_out(self, job_id: str) -> None:
        record = self.hashes[keys.job(job_id)]
        status, queue = record["status"], record["origin"].decode()
        if status == b"queued":
            self.lists[keys.queue(queue)].remove(bytes_of(job_id))
        elif status == b"started":
            claims = self.scores[keys.registry("wip", queue)]
            for member in [member for member in claims if member.startswith(bytes_of(f"{job_id}:"))]:
                del claims[member]
        else:
            self.scores[keys.registry(_REGISTRIES.get(status, status.decode()), queue)].pop(bytes_of(job_id), None)

    # --- step.lua, promote.lua, release.lua ------------------------------------------------------

    def claim(self, job_id: str) -> Claim:
        """Take a queued job."""
        record = self.hashes[keys.job(job_id)]
        queue = record["origin"]
        self.lists[keys.queue(queue.decode())].remove(bytes_of(job_id))
        execution = f"testing.{next(self._numbers)}"
        self.scores[keys.registry("wip", queue.decode())][bytes_of(f"{job_id}:{execution}")] = runtime.now()
        self._set(job_id, status="started", started_at=iso(runtime.now()), worker_name="testing")
        timeout, ttl, interruptions = (record.get(field, b"") for field in ("timeout", "result_ttl", "interruptions"))
        more = {field: record.get(field, b"") for field in ("progress", "expires_at", "context", "schedule", "profile")}
        few = [*Rare(timeout, ttl, interruptions), *More(**more, has_prerequisites=int("prereqs" in record))]
        return Claim([*Row(bytes_of(job_id), queue, execution.encode(), record.get("data", b""), few)])

    def commit(self, claim: Claim, outcome: Outcome, command: str, seconds: float) -> None:
        """Write what an attempt ended as, if the claim is still held."""
        job_id = claim.job_id
        sent = encode_outcome(claim, outcome, command, seconds)
        member = claim.id + b":" + claim.execution
        if self.scores[keys.registry("wip", claim.queue_name)].pop(member, None) is None:
            return  # it was cancelled while it ran
        now, record = runtime.now(), self.hashes[keys.job(job_id)]
        record.update(
            (str(name), bytes_of(value)) for name, value in zip(sent.fields[::2], sent.fields[1::2], strict=True)
        )
        if sent.event:
            self._note(job_id, sent.event)
        if sent.result_type:
            entry = {"type": sent.result_type, "worker_name": "testing", "execution_started_at": sent.began}
            text = "return_value" if sent.result_type == "1" else "exc_string"
            entry |= {"execution_ended_at": now, text: sent.result}
            self._keep_result(job_id, {bytes_of(name): bytes_of(value) for name, value in entry.items() if value != ""})
        when = sent.when
        match sent.kind:
            case "F":
                self._end(job_id, "finished", now + int(when))
            case "D":
                record.pop("progress", None)
                self._end(job_id, "failed", float(when))
            case "C":
                self._end(job_id, "canceled", float(when))
            case "S":
                self._set(job_id, due=str(when))  # which a test is shown; a server does not note it
                self._put(job_id, "scheduled", float(when))
            case "T":
                for field in ("started_at", "worker_name", "due"):
                    record.pop(field, None)
                self._enqueue(job_id)
        if sent.kind in ("F", "D", "C"):
            self._release(job_id, finished=sent.kind == "F")
        elif isinstance(outcome, Retried | Requeued | Postponed):
            self._pushed(job_id, counts=not isinstance(outcome, Postponed))

    def next_due(self, *, after: float) -> float | None:
        """Return when the next job becomes due after that time, in seconds since the epoch; None without one."""
        scheduled = [members for key, members in self.scores.items() if key.startswith(keys.registry("scheduled", ""))]
        return min((score for members in scheduled for score in members.values() if score > after), default=None)

    def promote(self) -> None:
        """Put the jobs that have become due into their queues, in the order of their times."""
        due = sorted(
            (score, member.decode(), key)
            for key, members in self.scores.items()
            if key.startswith(keys.registry("scheduled", ""))
            for member, score in members.items()
            if score <= runtime.now()
        )
        for _, job_id, key in due:
            del self.scores[key][bytes_of(job_id)]
            self._enqueue(job_id, at_front="front" in self.hashes[keys.job(job_id)])

    def _release(self, job_id: str, *, finished: bool) -> None:
        waiting = [keys.dependents(job_id), keys.followers(job_id)] if finished else [keys.followers(job_id)]
        for key in waiting:
            for member in sorted(self.sets.pop(key, ())):
                dependent = member.decode()
                self.srem(keys.waits(dependent), job_id)
                if not self.exists(keys.waits(dependent)) and self.hget(keys.job(dependent), "status") == b"deferred":
                    self._take_out(dependent)
                    due = float(self.hashes[keys.job(dependent)].get("due", 0))
                    if due > runtime.now():
                        self._put(dependent, "scheduled", due)
                    else:
                        self._enqueue(dependent)
                    self._pushed(dependent, counts=False)

    # --- what they share -------------------------------------------------------------------------

    def _enqueue(self, job_id: str, *, at_front: bool = False, now_iso: str = "") -> None:
        self._set(job_id, status="queued", enqueued_at=now_iso or iso(runtime.now()))
        queue = self.lists[keys.queue(self.hashes[keys.job(job_id)]["origin"].decode())]
        queue.insert(0 if at_front else len(queue), bytes_of(job_id))

    def _put(self, job_id: str, status: str, score: float) -> None:
        self._set(job_id, status=status)
        self.scores[keys.registry(status, self.hashes[keys.job(job_id)]["origin"].decode())][bytes_of(job_id)] = score

    def _end(self, job_id: str, status: str, until: float) -> None:
        self._set(job_id, ended_at=iso(runtime.now()))
        self._put(job_id, status, until)
        self.ends[keys.job(job_id)] = until

    def _forget_job(self, job_id: str) -> None:
        self.forget(keys.job(job_id))
        self.forget(keys.results(job_id))

    def _keep_result(self, job_id: str, entry: dict[bytes, bytes]) -> None:
        stream = self.streams[keys.results(job_id)]
        stream.append((f"{int(runtime.now() * 1_000)}-{next(self._numbers)}".encode(), entry))
        del stream[:-10]

    def _note(self, job_id: str, event: str) -> None:
        known = self.hashes[keys.job(job_id)].get("history", b"")
        events = [*known.split(b"\n"), *event.encode().split(b"\n")] if known else event.encode().split(b"\n")
        self.hashes[keys.job(job_id)]["history"] = b"\n".join(events[-HISTORY:])

    def _set(self, job_id: str, **fields: str) -> None:
        self.hashes[keys.job(job_id)].update((name, value.encode()) for name, value in fields.items())
