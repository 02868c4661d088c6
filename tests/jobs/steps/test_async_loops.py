"""`async for item in self.each(items)`: goes on where it was, as a plain loop does, and has no transactions."""

import gc

import pytest
from asgiref.sync import sync_to_async

from jobs.broker.connections import get_connection
from jobs.steps.record import State
from tests.sample.commands.steps_async import AsyncPlan
from tests.sample.models import Batch, Submission

pytestmark = pytest.mark.django_db(transaction=True)


class Planned(Exception):
    """As planned."""


@pytest.fixture(autouse=True)
def did():
    AsyncPlan.did.clear()
    yield AsyncPlan.did
    AsyncPlan.did.clear()
    AsyncPlan.plans.clear()


@pytest.fixture
def plan():
    """Have `AsyncPlan` do what a function does, and return the job."""

    def defer(function):
        AsyncPlan.plans[function.__name__] = function
        return AsyncPlan.defer(function.__name__)

    return defer


def state_of(job):
    return State.load(get_connection("default").hget(f"rq:job:{job.id}", "steps") or b"")


def test_after_an_error_it_goes_on_with_the_item_in_hand(worker, plan, did):
    async def fail_at_each(command):
        async for number in command.each(command.numbers(5), total=5):
            did.append(number)
            if did.count(number) == 1:
                raise Planned

    job = plan(fail_at_each)
    for _ in range(6):
        worker.hurry().run()
    assert (job.state, did) == ("finished", [0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    assert [(step.name, step.done) for step in state_of(job).ended] == [("each", 5)]
    assert (job.report.done, job.report.total) == (5, 5)


def test_a_stop_ends_the_attempt_and_nothing_is_repeated(worker, plan, did, orders, often):
    async def stop_in_the_middle(command):
        async for number in command.each(command.numbers(5)):
            did.append(number)
            if len(did) == 3:
                orders.reason = "the worker stops"

    job = plan(stop_in_the_middle)
    worker.step()
    assert (job.state, did, state_of(job).current.cursor) == ("queued", [0, 1, 2], 3)
    worker.run()
    assert (job.state, did) == ("finished", [0, 1, 2, 3, 4])


def test_it_walks_a_queryset_by_key_in_another_thread(worker, plan, did, monkeypatch):
    monkeypatch.setattr("jobs.steps.walk.ROWS", 2)
    batch = Batch.objects.create()
    Submission.objects.bulk_create(Submission(batch=batch) for _ in range(5))
    keys = sorted(Submission.objects.values_list("pk", flat=True))

    async def walk(command):
        async for submission in command.each(Submission.objects.all()):
            did.append(submission.pk)
            if len(did) == 3:
                await sync_to_async(submission.delete)()
                raise Planned

    job = plan(walk)
    worker.run()
    assert state_of(job).current.cursor == keys[1]
    worker.hurry().run()
    assert (job.state, did) == ("finished", keys)


@pytest.mark.parametrize("how", ["break", "error", "error of the items"])
def test_one_that_is_left_is_over_and_the_next_step_begins(how, worker, plan, did):
    async def broken(command):
        async for number in command.numbers(5):
            yield number
            if number == 1 and how == "error of the items":
                raise Planned

    async def leave(command):
        try:
            async for number in command.each(broken(command)):
                did.append(number)
                if number == 1 and how == "break":
                    break
                if number == 1 and how == "error":
                    raise Planned
        except Planned:
            did.append("caught")
        command.step(lambda: None, name="after")
        async for number in command.each(command.numbers(2), name="again"):
            did.append(number)

    job = plan(leave)
    gc.disable()  # the end of a loop must not wait for a collection
    try:
        worker.run()
    finally:
        gc.enable()
    assert (job.state, did) == ("finished", [0, 1, 0, 1] if how == "break" else [0, 1, "caught", 0, 1])


def test_an_attempt_that_finds_it_ended_passes_over_it(worker, plan, did):
    async def fail_once(command):
        async for number in command.each(command.numbers(2)):
            did.append(number)
        if len(did) == 2:
            did.append("failed")
            raise Planned

    job = plan(fail_once)
    worker.run()
    worker.hurry().run()
    assert (job.state, did) == ("finished", [0, 1, "failed"])


def test_without_a_worker_it_is_a_loop(did):
    async def walk(command):
        async for number in command.each(command.numbers(2)):
            did.append(number)

    AsyncPlan.plans["walk"] = walk
    AsyncPlan.run("walk")
    assert did == [0, 1]


def test_the_kit_interrupts_and_kills(jobs, plan, did):
    async def walk(command):
        async for number in command.each(command.numbers(5)):
            did.append(number)

    job = plan(walk)
    jobs.interrupt(AsyncPlan, at="each", after=2)
    jobs.perform_enqueued_jobs()
    assert (job.state, did) == ("queued", [0, 1])
    jobs.kill(AsyncPlan, at="each", after=4)
    jobs.perform_enqueued_jobs()
    jobs.perform_enqueued_jobs()
    assert (job.state, did) == ("finished", [0, 1, 2, 3, 2, 3, 4])


async def _nested(command):
    async for _ in command.each(command.numbers(2)):
        command.step(lambda: None, name="inner")


async def _plain(command):
    for _ in command.each(Submission.objects.all()):
        pass


async def _atomic(command):
    async for _ in command.each(command.numbers(2), atomic=True):
        pass


async def _with_a_body(command):
    command.each(Submission.objects.all(), print)


async def _not_begun(command):
    command.each(command.numbers(2))
    command.step(lambda: None, name="next")


async def _by_nothing(command):
    async for _ in command.each(Submission.objects.all(), by="nothing"):
        pass


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (_nested, "The step 'inner' begins inside another one, 'each'"),
        (_plain, "`async for item in self.each(items)`, in an `async def`"),
        (_atomic, "a transaction belongs to one thread"),
        (_with_a_body, "a transaction belongs to one thread"),
        (_not_begun, "The step 'next' begins inside another one, 'each'"),
        (_by_nothing, "has no field 'nothing'"),
    ],
)
def test_what_is_impossible_is_refused(function, reason, worker, plan):
    job = plan(function)
    worker.run()
    assert reason in job.reason
