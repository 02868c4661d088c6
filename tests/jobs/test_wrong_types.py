"""A key of another type than jobs or RQ keep under its name, whichever it is, stops nothing else."""

import os
import time

import pytest
from django.core.management import call_command
from django.urls import reverse

from jobs import doctor, queues, scheduler
from jobs.broker import keys
from jobs.broker.connections import get_connection
from jobs.inspection import attempt_counts, workers
from jobs.scheduler import Entry
from jobs.worker.parent import Parent
from jobs.worker.process import Process
from jobs.worker.scoreboard import Board
from jobs.worker.settings import WorkerSettings
from tests.sample.commands.notes import WriteNote

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

NOW = int(time.time())
KEYS = [
    *("rq:queues", "rq:workers", "rq:queue:low", "rq:suspended", "rq:scheduler:scheduled_jobs", "rq:scheduler_lock"),
    *(keys.registry(kind, "low") for kind in ("wip", "scheduled", "deferred", "finished", "failed", "canceled")),
    *("jobs:workers", "jobs:paused", "jobs:releasing", "jobs:schedule", "jobs:lease:promotion", "jobs:bulk"),
    *("jobs:counts:total", "jobs:counts:summed", "jobs:profiles", "jobs:web", "jobs:aside"),
    *("jobs:schedule:runs:entry-e", "jobs:schedule:ended:entry-e", "rq:job:entry-e", "rq:worker:w1", "rq:workers:low"),
    *(keys.counts(NOW // 60 + minute) for minute in (-60, 0, 1)),
    *(keys.samples(NOW // 60 + minute) for minute in (0, 1)),
    keys.counts_of_hour(NOW // 3_600 - 1),
]
PAGES = [
    ("jobs_dashboard_changelist", []),
    *(
        ("jobs_list", [state])
        for state in ("queued", "running", "scheduled", "waiting", "dead", "cancelled", "finished")
    ),
    *(("jobs_queue", ["low"]), ("jobs_workers", []), ("jobs_recurring", [])),
    *(("jobs_commands", []), ("jobs_profiles", []), ("jobs_metrics", []), ("jobs_api_overview", [])),
]


def plant(client, key):
    """A string, or a hash where a string belongs."""
    client.delete(key)
    if key in ("rq:suspended", "rq:scheduler_lock", "jobs:lease:promotion", "jobs:counts:summed"):
        client.hset(key, "some", "body's")
    else:
        client.set(key, "somebody's")


@pytest.mark.parametrize("key", KEYS)
def test_whatever_the_key_jobs_of_other_queues_run_and_the_pages_are_there(key, worker, admin_client, valkey):
    client = get_connection("default")
    scheduler.add(Entry("e", "sample.WriteNote", args=("x",), every=3_600))
    plant(client, key)
    parent, process = Parent(WorkerSettings(queues={"default": None}, concurrency=1, processes=1)), None
    for _ in range(2):  # what was put aside the first time is well the second
        process = Process("w1", 0, Board(1))
        process.pid = os.getpid()
        registered = parent._register(process)
        parent._children._alive = [process]
        done = [parent._duties.one(duty) for duty in (parent._beat, parent._recover, *parent._often)]
    parent._duties.one(parent._promotion.end)  # the turn is the worker's, below
    jobs = [
        WriteNote.defer("x"),
        WriteNote.defer("x", wait=60),
        WriteNote.defer("x", prereq_jobs=[WriteNote.defer("y")]),
    ]
    low = WriteNote.using(queue="low").defer("x") if key != "rq:suspended" else jobs[0]
    worker.hurry().run()
    shown = [*PAGES, ("jobs_worker", [process.name])]
    pages = {name: admin_client.get(reverse(f"admin:{name}", args=args)) for name, args in shown}
    bad = {name: page.content.decode()[-900:] for name, page in pages.items() if b"WRONGTYPE" in page.content}
    bad |= {name: page.status_code for name, page in pages.items() if page.status_code >= 400}
    call_command("jobs", "stats")

    assert [str(job.state) for job in (*jobs, low)] == ["finished"] * 4
    assert (bad, registered, done) == ({}, True, [True] * len(done))
    assert [finding.what for finding in doctor.examine() if "could not be examined" in finding.what] == []
    assert attempt_counts.totals() is not None
    assert (queues.lengths(), workers.listed(), queues.paused()) is not None
