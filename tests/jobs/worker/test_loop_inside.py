"""The event loop in this process: its lent threads, its lifespan, the contexts of its tasks."""

import asyncio
import contextlib
import contextvars
import gc
import itertools
import random
import threading
import time
from collections import Counter

import pytest
from django.db.backends.signals import connection_created
from django.test import override_settings
from django.utils import translation

from jobs import execution
from jobs.attempts.claim import Claim
from jobs.attempts.interrupt import Stopped, TimedOut
from jobs.attempts.outcomes import Dead, Finished
from jobs.record import payload
from jobs.worker import databases, loop_side
from jobs.worker.loop import Loop
from jobs.worker.scoreboard import Board
from tests.jobs.worker import eventually
from tests.sample.commands.lending import LendOut
from tests.sample.commands.on_loop import Await, InContext
from tests.sample.commands.on_loop import shared as shared_by_jobs

pytestmark = pytest.mark.django_db(transaction=True)


class Inline:
    """A loop, and the outcomes of its tasks by the id of the job."""

    def __init__(self, threads, tasks):
        self.outcomes, self.numbers = {}, itertools.count()
        self.loop = Loop(Board(threads, tasks), execution.attempt_on_loop, self.note, lambda: None)
        self.loop.start()
        self.loop.wait_until_begun(10)

    def note(self, claim, outcome, command, seconds):
        self.outcomes[claim.job_id] = outcome

    def run(self, command, *args, count=1, **kwargs):
        data = payload.build(command, list(args), kwargs)
        ids = [f"job-{next(self.numbers)}" for _ in range(count)]
        claims = [Claim([each.encode(), b"default", b"w.%d" % at, data, b""]) for at, each in enumerate(ids)]
        self.loop.start_tasks(claims)
        return ids

    def outcome(self, job_id):
        return eventually(lambda: self.outcomes.get(job_id))


@pytest.fixture
def inline():
    loops = []

    def start(threads=2, tasks=100):
        loops.append(Inline(threads, tasks))
        return loops[-1]

    yield start
    for each in loops:
        each.loop.leave(5)


@pytest.mark.parametrize("package", ["asyncio", "uvloop"])
def test_concurrent_commands_share_few_connections_and_no_transaction(package, inline, monkeypatch):
    """A hundred at once, with random awaits, errors, cancellations and transactions that are left open."""
    monkeypatch.setattr("jobs.worker.loop.new_event_loop", pytest.importorskip(package).new_event_loop)
    databases.prepare()
    LendOut.in_use.clear(), LendOut.faults.clear()
    LendOut.most = 0
    opened = Counter()
    connection_created.connect(count := lambda connection, **_: opened.update([threading.get_ident()]), weak=False)
    runner, dice = inline(threads=3, tasks=100), random.Random(7)
    try:
        ids = [runner.run("sample.LendOut", seed)[0] for seed in range(100)]
        while len(runner.outcomes) < len(ids):  # as the main thread does, of some
            time.sleep(0.01)
            for task in list(runner.loop.running):
                if (claim := task.claim) is not None and dice.random() < 0.05:
                    task.interrupt(claim, dice.choice([TimedOut, Stopped]))
    finally:
        connection_created.disconnect(count)

    assert LendOut.faults == []
    assert 1 <= LendOut.most <= 3
    assert len(opened) <= 3  # threads that have opened any
    assert {type(outcome) for outcome in runner.outcomes.values()} == {Finished, Dead}
    reasons = Counter(outcome.reason.partition(":")[0] for outcome in runner.outcomes.values() if type(outcome) is Dead)
    assert reasons["ConnectionAcrossCallsError"]
    assert reasons["RuntimeError"]
    assert reasons.keys() <= {"ConnectionAcrossCallsError", "RuntimeError", "TimedOut", "stopped on request"}


entered = contextvars.ContextVar("entered", default="no")
life: list[str] = []


@contextlib.asynccontextmanager
async def lifespan():
    entered.set("yes")
    shared_by_jobs.append("pool")
    life.append("begins")
    try:
        yield
    finally:
        await asyncio.sleep(0)
        life.append("ends")


@contextlib.asynccontextmanager
async def failing():
    raise LookupError("no such host")
    yield


def test_jobs_run_inside_the_projects_lifespan(inline):
    life.clear(), shared_by_jobs.clear()
    with override_settings(JOBS={"LOOP_LIFESPAN": f"{__name__}.lifespan"}):
        runner = inline()
    InContext.variable = entered
    (job_id,) = runner.run("sample.InContext")
    assert runner.outcome(job_id).result == b'["yes","en",1]'

    runner.loop.leave(5)
    assert life == ["begins", "ends"]


def test_each_job_has_a_context_of_its_own(inline):
    shared_by_jobs.clear()
    runner = inline()
    InContext.variable = entered
    ids = runner.run("sample.InContext", "de", count=2)
    last = runner.run("sample.InContext")

    with translation.override("fr"):
        assert {runner.outcome(each).result for each in ids} == {b'["no","de",0]'}
        assert runner.outcome(last[0]).result == b'["no","en",0]'


def test_a_lifespan_that_raises_is_an_error_of_the_start():
    with override_settings(JOBS={"LOOP_LIFESPAN": f"{__name__}.failing"}):
        loop = Loop(Board(1, 1), execution.attempt_on_loop, lambda *_: None, lambda: None)
        loop.start()
        with pytest.raises(LookupError, match="no such host"):
            loop.wait_until_begun(10)


@pytest.mark.slow
def test_ten_thousand_jobs_await_at_once(inline):
    runner = inline(tasks=10_000)
    ids = runner.run("sample.Await", 0.5, count=10_000)
    eventually(lambda: len(runner.loop.running) == 10_000)
    eventually(lambda: len(runner.outcomes) == len(ids))

    assert {type(outcome) for outcome in runner.outcomes.values()} == {Finished}
    assert Await.is_async


@pytest.mark.parametrize(("before", "after"), [(700, 10_000), (0, 0), (50_000, 50_000)])
def test_the_garbage_collector_begins_later_unless_the_project_says_otherwise(before, after):
    found = gc.get_threshold()
    gc.set_threshold(before, 11, 12)
    try:
        loop_side._collect_less_often()
        assert gc.get_threshold()[:2] == (after, 11)
    finally:
        gc.set_threshold(*found)
