"""
The server refuses one call of a script, whichever. No job is without a place then, and none is doubled: doing the
same again does all of it, once.
"""

import contextlib
import hashlib
import time
from datetime import UTC, datetime, timedelta
from math import inf

import django_rq
import pytest
from redis.exceptions import RedisError

from jobs import control, queues, scheduler
from jobs.attempts.outcomes import Dead, Discarded, Finished, GivenBack, Recorded, Requeued, Retried, Waiting
from jobs.broker.connections import get_connection, run_script
from jobs.inspection import attempt_counts
from jobs.queues import _PUSH
from jobs.record import prerequisites
from jobs.retries import Progress
from jobs.scheduler import _OCCUR, Entry, Scheduler
from jobs.worker import recovery, release
from jobs.worker.connection import Wire
from jobs.worker.promotion import _PROMOTE, Promotion
from jobs.worker.steps import _STEP
from tests.sample import functions
from tests.sample.commands.collapsing import SaveDurably
from tests.sample.commands.limits import OncePerNumber
from tests.sample.commands.notes import WriteNote

pytestmark = pytest.mark.django_db(transaction=True)  # a job that has no record may be in the outbox

LINKED_AT_ONCE = 3  # instead of 100, so that few calls are to be refused
MANY = 2 * LINKED_AT_ONCE + 1  # prerequisites that take three calls of link.lua
PLACES = {"queued": "queue", "started": "wip", "stopped": "failed"}  # by status, where they are not called alike
REFUSING = """
local calls_made, refused_call = 0, %d
local function call_or_refuse(command, ...)
  calls_made = calls_made + 1
  if calls_made == refused_call then
    redis.call('SET', 'refused', command)
    error({ err = 'OOM refused by the test' })
  end
  return redis.call(command, ...)
end
"""


@contextlib.contextmanager
def refusing(script, number):
    """The call of that number of the script raises."""
    text, sha = script.text, script.sha
    script.text = REFUSING % number + text.replace("redis.call", "call_or_refuse")
    script.sha = hashlib.sha1(script.text.encode(), usedforsecurity=False).hexdigest()
    try:
        yield
    finally:
        script.text, script.sha = text, sha


def release_all():
    client = get_connection("default")
    for member in client.smembers("jobs:releasing"):
        release.release(client, member)
    for job_id in client.smembers("jobs:linking"):
        release.link(client, job_id, inf)


def pushing(command=WriteNote, rows=(("1",), ("2",)), **options):
    def scenario(new_fetch):
        first = WriteNote.defer_many([("first",)])
        links = {"prereq_jobs": first} if "prereq_failure" in options else {}
        yield lambda: command.defer_many(rows, **options, **links)

    return _PUSH, scenario


def pushing_many(script):
    """A job that is written, and linked to more prerequisites than a call links."""

    def scenario(new_fetch):
        firsts = WriteNote.defer_many([(str(n),) for n in range(MANY)], queue="low")
        client = get_connection("default")
        client.hset(firsts[0].key, "status", "finished")
        client.lrem("rq:queue:low", 0, firsts[0].id)
        client.zadd("rq:finished:low", {firsts[0].id: 9e9})
        yield lambda: WriteNote.defer("after", prereq_jobs=firsts, prereq_failure="run", wait=60)
        release_all()
        for job in client.zrange("rq:deferred:default", 0, -1):
            assert client.smembers(f"jobs:waits:{job.decode()}") == {first.id.encode() for first in firsts[1:]}
        assert not client.exists("jobs:linking")
        assert {client.ttl(key) > 0 for key in client.keys("jobs:unlinked:*")} <= {True}

    return script, scenario


def recorded(new_fetch):
    """A plain job whose outcome RQ's code has written, claimed by w; and a command that waits for the job."""
    job = django_rq.get_queue("default").enqueue(functions.add, 2, 3)
    WriteNote.defer_many([("after",)], prereq_jobs=[job.id])
    WriteNote.defer_many([("any",)], prereq_jobs=[job.id], prereq_failure="run")
    fetch, client = new_fetch("w"), get_connection("default")
    fetch._step(claims=True)
    fetch._ready.clear()
    fetch._stopped.set()
    (claim,) = fetch.held.values()
    client.hset(job.key, "status", "finished")
    client.zadd("rq:finished:default", {job.id: 9e9})
    client.zrem("rq:wip:default", f"{job.id}:{claim.execution.decode()}")
    return fetch, claim


def committing_recorded(new_fetch):
    fetch, claim = recorded(new_fetch)
    client = get_connection("default")
    fetch.commits.add(claim, Recorded(finished=True), "sample.add", 3.0)
    yield lambda: fetch._step(claims=False)
    release_all()
    assert client.llen("rq:queue:default") == 2
    assert not client.exists("jobs:plain:default", "jobs:releasing")


def recovering_recorded(new_fetch):
    recorded(new_fetch)
    client = get_connection("default")
    client.zrem("jobs:workers", "w")
    yield lambda: recovery.recover(Wire("default"), "default")
    release_all()
    assert client.llen("rq:queue:default") == 2
    assert not client.exists("jobs:plain:default", "jobs:releasing")


def committing(outcome):
    def scenario(new_fetch):
        jobs = WriteNote.defer_many([("1",), ("2",)])
        WriteNote.defer_many([("after",)], prereq_jobs=[jobs[0]], prereq_failure="run")
        fetch = new_fetch("w", threads=2)
        fetch._step(claims=True)
        fetch._ready.clear()
        fetch._stopped.set()
        for claim in list(fetch.held.values()):
            fetch.commits.add(claim, outcome(), "sample.WriteNote", 3.0)
        yield lambda: fetch._step(claims=False)

    return _STEP, scenario


def recovering(interruptions):
    def scenario(new_fetch):
        jobs = WriteNote.defer_many([("1",), ("2",)])
        new_fetch("w", threads=2)._step(claims=True)
        client = get_connection("default")
        client.zrem("jobs:workers", "w")
        for job in jobs:
            client.hset(job.key, "interruptions", interruptions)
        yield lambda: recovery.recover(Wire("default"), "default")

    return recovery._RECOVER, scenario


def promoting(new_fetch):
    for job in WriteNote.defer_many([("1",), ("2",)], wait=60):
        get_connection("default").zadd("rq:scheduled:default", {job.id: 1})

    def act():
        get_connection("default").delete("jobs:lease:promotion")
        Promotion(Wire("default")).run(["default"])

    yield act


def scheduling(new_fetch):
    scheduler.add(Entry("hourly", WriteNote, args=("x",), every=timedelta(hours=1)))
    entry, client = scheduler.get("hourly").id, get_connection("default")
    client.zadd("rq:scheduler:scheduled_jobs", {entry: time.time() - 1})
    yield lambda: Scheduler(connection=client)._write_due()
    assert client.llen("rq:queue:default") == client.llen(f"jobs:schedule:runs:{entry}") == 1
    assert client.hget(f"rq:job:{entry}", "runs_written") == b"1"


def releasing(new_fetch):
    (first,) = WriteNote.defer_many([("first",)])
    WriteNote.defer_many([("1",), ("2",)], prereq_jobs=[first])
    WriteNote.defer_many([("3",)], prereq_jobs=[first], wait=60)
    client = get_connection("default")
    client.hset(first.key, "status", "finished")
    client.lrem("rq:queue:default", 0, first.id)
    client.zadd("rq:finished:default", {first.id: 9e9})
    client.sadd("jobs:releasing", f"jobs:dependents:{first.id}")
    yield release_all
    assert (client.llen("rq:queue:default"), client.zcard("rq:scheduled:default")) == (2, 1)
    assert not client.exists("jobs:releasing")


def linking(new_fetch):
    firsts = WriteNote.defer_many([("1",), ("2",), ("3",)], queue="low")
    job = WriteNote.defer("after", prereq_jobs=firsts)
    client = get_connection("default")
    client.delete(f"jobs:waits:{job.id}", *[f"jobs:dependents:{first.id}" for first in firsts])
    client.sadd(f"jobs:waits:{job.id}", job.id)
    prerequisites.announce(client, job.id, [first.id for first in firsts])
    client.sadd("jobs:linking", job.id)
    client.hset(firsts[0].key, "status", "finished")
    client.lrem("rq:queue:low", 0, firsts[0].id)
    client.zadd("rq:finished:low", {firsts[0].id: 9e9})
    yield release_all
    assert client.smembers(f"jobs:waits:{job.id}") == {first.id.encode() for first in firsts[1:]}
    assert set(client.keys("jobs:dependents:*")) == {f"jobs:dependents:{first.id}".encode() for first in firsts[1:]}
    assert not client.exists("jobs:linking", f"jobs:unlinked:{job.id}")


def linking_the_last(new_fetch):
    job = WriteNote.defer("after", prereq_jobs=WriteNote.defer_many([("1",)], queue="low"))
    client = get_connection("default")
    client.delete(f"jobs:waits:{job.id}")
    client.sadd(f"jobs:waits:{job.id}", job.id)
    client.sadd("jobs:linking", job.id)
    yield release_all
    assert client.lrange("rq:queue:default", 0, -1) == [job.id.encode()]
    assert not client.exists("jobs:linking", f"jobs:waits:{job.id}")


def changing(how, state, many):
    def scenario(new_fetch):
        first = WriteNote.defer_many([("first",)])
        options = {"scheduled": {"wait": 60}, "waiting": {"prereq_jobs": first}}.get(state.split()[-1], {})
        jobs = WriteNote.defer_many([(str(n),) for n in range(many)], **options)
        if how in {"cancel", "delete"}:
            WriteNote.defer_many([("after",)], prereq_jobs=[jobs[0]], prereq_failure="run")
        if "many" in state:
            get_connection("default").sadd(f"jobs:waits:{jobs[0].id}", *range(300))
        if "linking" in state:
            client = get_connection("default")
            client.sadd(f"jobs:waits:{jobs[0].id}", jobs[0].id)
            client.sadd(f"jobs:unlinked:{jobs[0].id}", *range(LINKED_AT_ONCE + 1))
            client.sadd("jobs:linking", jobs[0].id)
        if state in {"running", "rewritten running", "dead"}:
            fetch = new_fetch("w", threads=many + 1)
            fetch._step(claims=True)
            if "rewritten" in state:  # by RQ's code: its claim is searched for
                for job in jobs:
                    get_connection("default").hset(job.key, "started_at", "2020-01-01T00:00:00.000000Z")
            for claim in [claim for claim in fetch.held.values() if state == "dead" and claim.job_id != first[0].id]:
                fetch.commits.add(claim, Dead("why", "", ""), "sample.WriteNote", 1.0)
            fetch._step(claims=False)
        if state.startswith("cancelled"):
            control.change_all("cancel", jobs)
        yield lambda: act(jobs)

    def act(jobs):
        with contextlib.suppress(control.ChangeRefusedError):
            if how == "reschedule":
                control.reschedule(jobs[0], datetime(2040, 1, 1, tzinfo=UTC))
            elif many == 1:
                getattr(control, how)(jobs[0], **({"queue": "low"} if how == "move" else {}))
            else:
                control.change_all(how, jobs, "low" if how == "move" else "")

    return control._CHANGE, scenario


def clearing(new_fetch):
    jobs = WriteNote.defer_many([("1",), ("2",), ("3",)])
    get_connection("default").hset(jobs[1].key, "enqueued_at", "2999-01-01T00:00:00.000000Z")  # this one stays
    WriteNote.defer_many([("after",)], prereq_jobs=[jobs[0]], prereq_failure="run")
    yield lambda: list(control.clear("default", datetime.now(UTC)))


def summing_up(new_fetch):
    client, hour = get_connection("default"), int(time.time()) // 3600 - 1
    labels = {"default|x|finished|3": 5, "default|x|dead|3": 2}
    for minute in (0, 30, 59):
        client.hset(f"jobs:counts:{hour * 60 + minute}", mapping=labels)
    keys, words = attempt_counts._summing(hour * 3600, into_total=True)

    def act():
        while run_script(client, attempt_counts._SUM_UP, keys, words) == 0:
            pass

    yield act
    for key in (keys[0], "jobs:counts:total"):
        assert client.hmget(key, *labels) == [b"15", b"6"]
    assert client.ttl(keys[0]) > 0


SCENARIOS = {
    "push": pushing(),
    "push scheduled": pushing(wait=60),
    "push unique": pushing(OncePerNumber, ((1,), (2,))),
    "push collapsing": pushing(SaveDurably, ((1, "a"), (1, "b"), (2, "c")), durable=False),
    "push waiting": pushing(prereq_failure="run"),
    "push many": pushing_many(_PUSH),
    "link many": pushing_many(prerequisites._LINK),
    "promote": (_PROMOTE, promoting),
    "occur": (_OCCUR, scheduling),
    "release": (release._RELEASE, releasing),
    "link": (prerequisites._LINK, linking),
    "link the last": (prerequisites._LINK, linking_the_last),
    "clear": (control._CLEAR, clearing),
    "sum up": (attempt_counts._SUM_UP, summing_up),
    "recover": recovering(0),
    "recover poison": recovering(2),
    "recover recorded": (recovery._RECOVER, recovering_recorded),
    "commit recorded": (_STEP, committing_recorded),
    "commit finished": committing(lambda: Finished(b"1", 500, "log")),
    "commit forgotten": committing(lambda: Finished(None, 0)),
    "commit retried": committing(lambda: Retried(60, "why", "", Progress(), "")),
    "commit requeued": committing(lambda: Requeued(0, Progress())),
    "commit given back": committing(GivenBack),
    "commit dead": committing(lambda: Dead("why", "", "")),
    "commit discarded": committing(lambda: Discarded("why")),
    "commit waiting": committing(Waiting),
}
CHANGES = ["retry dead", "retry cancelled", "retry cancelled waiting", "retry scheduled", "run_now scheduled"]
CHANGES += ["run_now waiting", "cancel queued", "cancel running", "cancel scheduled", "cancel waiting", "delete queued"]
CHANGES += [
    "delete dead",
    "delete running",
    "delete waiting",
    "cancel many waiting",
    "cancel linking waiting",
    "delete linking waiting",
    "cancel rewritten running",
    "retry cancelled many waiting",
    "delete many waiting",
    "move queued",
    "reschedule scheduled",
]
SCENARIOS |= {
    f"{change} x{many}": changing(*change.split(" ", 1), many)
    for change in CHANGES
    for many in ((1,) if "reschedule" in change else (1, 2))
}


def records(client):
    """Each job's status, by its id; entries are none."""
    entries = {b"rq:job:" + entry for entry in client.smembers("jobs:schedule")}
    found = (key for key in client.scan_iter("rq:job:*") if key not in entries)
    return {key.decode().removeprefix("rq:job:"): client.hget(key, "status").decode() for key in found}


@pytest.mark.parametrize("name", SCENARIOS)
def test_one_refused_call_loses_and_doubles_nothing(name, new_fetch, places, valkey, monkeypatch):
    monkeypatch.setattr(prerequisites, "LINKED_AT_ONCE", LINKED_AT_ONCE)
    monkeypatch.setattr(queues, "SLICE_LINKS", LINKED_AT_ONCE)
    script, scenario = SCENARIOS[name]
    client = get_connection("default")
    for number in range(1, 200):
        client.flushdb()
        steps = scenario(new_fetch)
        act = next(steps)
        with refusing(script, number), contextlib.suppress(RedisError):
            act()
        refused = client.getdel("refused")
        if refused is None:
            assert number > 3
            break
        found = places()
        assert [job for job in records(client) if not found.get(job)] == [], (number, refused)
        act()
        next(steps, None)
        release_all()
        expected = {job: PLACES.get(status, status) for job, status in records(client).items()}
        assert {job: [place.partition(":")[0] for place in at] for job, at in places().items()} == {
            job: [place] for job, place in expected.items()
        }, (number, refused)
