"""
Whatever lies under the name of a key of ours or RQ's, by its type or by what it holds: it stops nothing else, and the
doctor names it. The keys are those of `jobs.broker.keys`: one that is added there is tried here.
"""

import inspect
import os
import time

import pytest
from django.core.management import call_command
from django.urls import reverse

from jobs import Batch, bulk, doctor, queues, scheduler
from jobs.broker import keys
from jobs.broker.connections import get_connection
from jobs.doctor.servers import SHOWN
from jobs.inspection import attempt_counts, workers
from jobs.scheduler import Entry, Scheduler
from jobs.worker.parent import Parent
from jobs.worker.process import Process
from jobs.worker.scoreboard import Board
from jobs.worker.settings import WorkerSettings
from tests.sample.commands.limited import OnePerShop
from tests.sample.commands.notes import WriteNote

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

NOW = int(time.time())
WHAT = {  # what a function of keys.py is called with, by the names of its parameters
    **{"queue": ["low"], "worker": ["w1"], "kind": keys.REGISTRIES, "entry_id": ["entry-e"], "list_id": ["list"]},
    **{"group": ["default,low"], "limit_id": ["sample.OnePerShop:concurrency:shop"]},
    **{"batch_id": ["b"], "state": keys.BATCH_STATES},
    **{"job_id": ["victim", "entry-e"], "command": ["sample.Once"], "digest": ["d"], "member": ["victim:1"]},
    **{"fingerprint": ["0123456789ab"], "user": ["1"], "step": [NOW // 600], "place": [f"{NOW // 60 * 60 - 600}:60"]},
    **{"minute": [NOW // 60 + minute for minute in (-60, 0, 1)], "hour": [NOW // 3_600 + hour for hour in (-1, 0)]},
}
OWN_NAMES = {"name": {keys.queue: ["low"], keys.worker: ["w1"], keys.lease: ["promotion"]}}
OF_PLACES = (keys.slots, keys.rate, keys.lane, keys.lanes)
OWN_NAMES["place"] = {each: ['sample.OnePerShop:concurrency:shop="a"'] for each in OF_PLACES}
NO_KEYS = {keys.channel, keys.woken, keys.name_of, keys.type_of, keys.shared}


def called(key):
    """All keys that a function of keys.py gives with the words above."""
    found = [()]
    for name in inspect.signature(key).parameters:
        found = [(*words, more) for words in found for more in OWN_NAMES.get(name, {}).get(key) or WHAT[name]]
    return [key(*words) for words in found]


FUNCTIONS = [each for each in vars(keys).values() if inspect.isfunction(each) and each.__module__ == keys.__name__]
CONSTANTS = [each for each in vars(keys).values() if isinstance(each, str) and each.startswith(("rq:", "jobs:"))]
LOCK = Scheduler.scheduler_lock_key
KEYS = {key: keys.TYPES[key] for key in CONSTANTS if key != keys.RQ}
KEYS |= {key: keys.TYPES[each] for each in FUNCTIONS if each not in NO_KEYS for key in called(each)}
BESIDE = {LOCK: "string", "rq:worker:w1:executions": "set", "rq:executions:victim": "zset"}  # RQ's code names these

ODD = ["", "::", "a:b:c:d", "no-colon", "rq:", "line\nbreak", "|||", "\x00", "[" * 5_000, '{"id":[]}', "null", "nan"]
ODD_BYTES = [*(text.encode() for text in ODD), b"\xff\xfe", b"x" * 1_000_000]

PAGES = [
    ("jobs_dashboard_changelist", []),
    *(
        ("jobs_list", [state])
        for state in ("queued", "running", "scheduled", "waiting", "dead", "cancelled", "finished")
    ),
    *(
        ("jobs_queue", ["low"]),
        ("jobs_workers", []),
        ("jobs_recurring", []),
        ("jobs_limits", []),
        ("jobs_job", ["victim"]),
    ),
    *(("jobs_errors", []), ("jobs_activity", []), ("jobs_search", []), ("jobs_command", ["sample.WriteNote"])),
    *(("jobs_commands", []), ("jobs_profiles", []), ("jobs_metrics", []), ("jobs_change", ["victim"])),
    *((f"jobs_api_{name}", []) for name in ("overview", "workers", "recurring", "commands", "changes")),
    *(("jobs_api_jobs", [state]) for state in ("queued", "running", "dead")),
    *(("jobs_api_job", ["victim"]), ("jobs_api_change", ["victim"]), ("jobs_flame_graph", ["victim", 1])),
]


def put(client, key, kind):
    """A key of that type, with something in it."""
    client.delete(key)
    write = {
        "string": lambda: client.set(key, "somebody's"),
        "hash": lambda: client.hset(key, "some", "body's"),
        "list": lambda: client.rpush(key, "some", "body's"),
        "set": lambda: client.sadd(key, "some", "body's"),
        "zset": lambda: client.zadd(key, {"some": 1, "body's": 9e9}),
        "stream": lambda: client.xadd(key, {"some": "body's"}),
    }
    write[kind]()


def put_odd(client, key, kind):
    """A key of its own type, and in it what nobody of us writes there."""
    if kind == "string":
        client.set(key, ODD_BYTES[-2])
    for at, odd in enumerate(ODD_BYTES):
        if kind == "hash":
            client.hset(key, odd, odd)
            for name in client.hkeys(key):
                client.hset(key, name, odd)
        elif kind == "list":
            client.lpush(key, odd)
        elif kind == "set":
            client.sadd(key, odd)
        elif kind == "zset":
            client.zadd(key, {odd: [1, float("inf"), float("-inf"), NOW, 8e9 + NOW][at % 5]})
        elif kind == "stream":
            client.xadd(key, {odd: odd})


TYPES = ["string", "hash", "list", "set", "zset", "stream"]
GROUPS = {  # keys that are wrong at once
    "entries": [key for key in KEYS if key.startswith("jobs:schedule") or "entry-e" in key],
    "counts": [key for key in KEYS if key.startswith(("jobs:counts", "jobs:samples"))],
    "victim": [key for key in (*KEYS, *BESIDE) if "victim" in key or "sample.Once" in key],
}
GROUPS["others"] = [key for key in (*KEYS, *BESIDE) if not any(key in group for group in GROUPS.values())]
ALL = {**KEYS, **BESIDE}


def before():
    """What lies in the server before: an entry, and a job that has what a job may have."""
    client = get_connection("default")
    for name in ("e", "good"):
        scheduler.add(Entry(name, "sample.WriteNote", args=("x",), every=3_600))
        client.zadd(keys.SCHEDULED_BY_RQ_SCHEDULER, {f"entry-{name}": NOW - 1})
    record = {"status": "queued", "origin": "low", "created_at": "2026-01-01T00:00:00.000000Z", "more": 1}
    record |= {"data": '["jobs.execution.perform", null, ["sample.WriteNote", "x"], {}]', "prereqs": '["first"]'}
    record["batch"] = "b"
    client.hset(keys.batch("b"), mapping={"name": "b", "created": NOW, "flow": 1})
    client.zadd(keys.BATCHES, {"b": NOW})
    client.sadd(keys.batch_members("pending", "b"), "victim")
    client.hset(keys.job("victim"), mapping=record)
    client.rpush(keys.queue("low"), "victim")
    client.zadd(keys.PROFILES, {"victim:1": NOW})
    client.zadd(keys.CHANGES, {"victim": NOW})
    return client


class Round:
    """Each thing that a worker, a client and a reader do, once; and what did not go well."""

    def __init__(self, worker, admin_client):
        self.bad = {}
        self._of_the_parent()
        low = WriteNote.using(queue="low")
        jobs = [WriteNote.defer("x"), WriteNote.defer("x", wait=60), low.defer("x")]
        jobs += [OnePerShop.using(queue="low").defer("a") for _ in range(2)]
        jobs.append(WriteNote.defer("x", prereq_jobs=[WriteNote.defer("y"), *jobs]))
        with Batch("of the round", on_complete=WriteNote.prepare("complete")):
            jobs.append(WriteNote.defer("x"))
        worker.hurry().run()
        self._parent._release()
        self._parent._batches.turn()
        worker.run()
        self.bad |= {f"job {at}": str(job.state) for at, job in enumerate(jobs) if job.state != "finished"}
        self._of_the_pages(admin_client)
        readers = (queues.lengths, workers.listed, queues.paused, bulk.recent, scheduler.upcoming, scheduler.entries)
        for reader in (*readers, scheduler.lag, attempt_counts.roll_up, attempt_counts.totals, attempt_counts.by_queue):
            self._try(reader, *([3_600] if reader is attempt_counts.by_queue else []))
        for words in (["stats"], *(["list", "--state", state] for state in ("queued", "running", "dead"))):
            self._try(call_command, "jobs", *words)
        self.findings = [finding.what for finding in doctor.examine()]
        self.bad |= {what: "" for what in self.findings if "could not be examined" in what}

    def _try(self, call, *words):
        try:
            return call(*words)
        except Exception as error:
            self.bad[f"{call.__name__} {words}"] = repr(error)[:400]

    def _of_the_parent(self):
        """Twice: what was put aside the first time is well the second."""
        parent = self._parent = Parent(
            WorkerSettings(queues={"default": None, "low": None}, concurrency=1, processes=1)
        )
        for _ in range(2):
            process = Process("w1", 0, Board(1))
            process.pid = os.getpid()
            registered = parent._register(process)
            parent._children._alive = [process]
            done = [parent._duties.one(duty) for duty in (parent._beat, parent._recover, *parent._often)]
            parent._duties.one(lambda: parent._maintenance.run(parent._every_queue))  # RQ's code mends nothing
        parent._duties.one(parent._promotion.end)  # the turn is the worker's
        self._name = process.name
        self.bad |= {f"duty {at}": "" for at, is_done in enumerate([registered, *done]) if not is_done}

    def _of_the_pages(self, client):
        client.raise_request_exception = False
        for name, words in (*PAGES, ("jobs_worker", [self._name]), ("jobs_api_worker", [self._name])):
            page = client.get(reverse(f"admin:{name}", args=words))
            if b"WRONGTYPE" in page.content:
                self.bad[name] = "WRONGTYPE"
            if page.status_code >= 500 or (page.status_code >= 400 and "victim" not in words):
                self.bad[name] = str(page.status_code)


def test_each_key_is_tried():
    """One that has no row in TYPES, or whose parameters are new here, fails above or here."""
    assert {each for each in FUNCTIONS if each not in NO_KEYS} == {each for each in keys.TYPES if callable(each)}
    assert {*CONSTANTS} - {keys.RQ} == {each for each in keys.TYPES if isinstance(each, str)}
    assert {key: keys.type_of(key) for key in KEYS} == KEYS
    assert not [
        key for key in (*BESIDE, "jobs:aside:rq:job:x", "somebody's", "rq:job:x:dependents") if keys.type_of(key)
    ]


def has_run(client, entry_id):
    return any(client.scan_iter(f"rq:job:{entry_id.removeprefix('entry-')}-*"))


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("kind", TYPES)
def test_keys_of_another_type_stop_nothing(kind, group, worker, admin_client, valkey):
    client = before()
    wrong = [key for key in GROUPS[group] if ALL[key] != kind]
    for key in wrong:
        put(client, key, kind)
    done = Round(worker, admin_client)

    assert done.bad == {}
    assert has_run(client, "entry-good") or keys.SCHEDULED_BY_RQ_SCHEDULER in wrong
    still = [key for key in wrong if keys.type_of(key) and client.type(key).decode() == kind]
    named = [key for key in still if any(repr(key) in what for what in done.findings)]
    assert len(named) == min(len(still), SHOWN)


@pytest.mark.parametrize("group", GROUPS)
def test_odd_contents_of_keys_stop_nothing(group, worker, admin_client, valkey):
    client = before()
    for key in GROUPS[group]:
        put_odd(client, key, ALL[key])

    assert Round(worker, admin_client).bad == {}
