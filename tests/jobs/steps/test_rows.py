"""Loops over querysets: by key, whatever happens to the rows, and in transactions that commit the cursor, too."""

import threading
import time

import pytest
from django.db import connection, connections, transaction

from jobs import execution
from jobs.attempts.interrupt import Interruptible
from jobs.attempts.outcomes import Finished
from jobs.broker.connections import get_connection
from jobs.models import Cursor
from jobs.steps import chunks
from jobs.worker.surroundings import new_context
from tests.jobs.steps.test_steps import Planned, die_in, state_of
from tests.sample.commands.steps import Grade, Plan
from tests.sample.models import Batch, Folder, Line, Note, Submission

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def batch():
    batch = Batch.objects.create()
    Submission.objects.bulk_create(Submission(batch=batch) for _ in range(25))
    return batch


def processed():
    return list(Submission.objects.order_by("pk").values_list("processed", flat=True))


class TestByKey:
    def visit(self, plan, did, items, **options):
        @plan
        def visiting(command):
            for item in command.each(items(), **options):
                did.append(item.pk)
                if did.count(item.pk) == 1 and len(did) in (3, 6):
                    raise Planned

        return Plan.defer("visiting")

    def test_rows_are_visited_in_the_order_of_their_keys(self, worker, plan, did, batch):
        job = self.visit(plan, did, lambda: Submission.objects.all())
        for _ in range(3):
            worker.hurry().run()
        keys = list(Submission.objects.order_by("pk").values_list("pk", flat=True))
        assert job.state == "finished"
        assert sorted(set(did)) == keys and did == sorted(did) and len(did) == len(keys) + 2

    def test_rows_may_come_and_go_meanwhile(self, worker, plan, did, batch):
        first = Submission.objects.order_by("pk").first()

        @plan
        def changing(command):
            for item in command.each(Submission.objects.all()):
                did.append(item.pk)
                if len(did) == 3:
                    Submission.objects.filter(pk=first.pk).delete()
                    Submission.objects.filter(pk=first.pk + 10).delete()
                    Submission.objects.create(batch=batch)
                    raise Planned

        job = Plan.defer("changing")
        worker.run()
        worker.hurry().run()
        assert job.state == "finished"
        expected = [first.pk + at for at in range(26) if at != 10]
        assert did == sorted([*expected, first.pk + 2])  # the item in hand is repeated

    def test_a_composite_key(self, worker, plan, did):
        Line.objects.bulk_create(Line(order=order, number=number) for order in "ab" for number in range(4))
        job = self.visit(plan, did, lambda: Line.objects.all())
        for _ in range(3):
            worker.hurry().run()
        assert job.state == "finished", job.reason
        assert sorted(set(did)) == [(order, number) for order in "ab" for number in range(4)]
        assert len(did) == 10

    def test_a_field_with_equal_values(self, worker, plan, did, batch):
        Submission.objects.filter(pk__gte=Submission.objects.order_by("pk")[10].pk).update(processed=7)
        job = self.visit(plan, did, lambda: Submission.objects.all(), by="processed")
        for _ in range(3):
            worker.hurry().run()
        assert job.state == "finished"
        assert len(did) == 27 and len(set(did)) == 25

    def test_a_foreign_key_and_a_text(self, worker, plan, did, batch):
        Folder.objects.bulk_create(Folder(path=path) for path in "bca")
        self.visit(plan, did, lambda: Folder.objects.all(), by="path")
        worker.run()
        assert did == ["a", "b", "c"]
        did.clear()
        job = self.visit(plan, did, lambda: Submission.objects.all(), by="batch")
        for _ in range(3):
            worker.hurry().run()
        assert job.state == "finished" and len(set(did)) == 25

    @pytest.mark.parametrize(
        ("items", "options", "reason"),
        [
            (lambda: Submission.objects.order_by("processed"), {}, "is ordered by processed"),
            (lambda: Submission.objects.order_by("pk").reverse(), {}, "is reversed"),
            (lambda: Submission.objects.reverse(), {}, "is reversed"),
            (lambda: Submission.objects.extra(order_by=["-id"]), {}, "is ordered by -id"),
            (lambda: Submission.objects.all()[:3], {}, "cannot walk a slice of Submission"),
            (lambda: Submission.objects.values("pk"), {}, "cannot walk values() of Submission"),
            (lambda: Submission.objects.all().union(Submission.objects.all()), {}, "cannot walk a union of Submission"),
            (lambda: Submission.objects.all(), {"by": "nothing"}, "has no field 'nothing'"),
            (lambda: Batch.objects.all(), {"by": "submission"}, "it may be null, or has no column"),
        ],
    )
    def test_what_cannot_be_walked_is_refused(self, worker, plan, did, items, options, reason):
        job = self.visit(plan, did, items, **options)
        worker.run()
        assert reason in job.reason


class TestAtomic:
    def test_each_happens_once_whatever_fails(self, worker, batch, monkeypatch):
        failed = []

        def fail_at_times(submission):
            if submission.pk % 7 == 0 and submission.pk not in failed:
                failed.append(submission.pk)
                raise Planned

        monkeypatch.setattr(Grade, "at", fail_at_times)
        job = Grade.defer(batch.pk, 10)
        for _ in range(6):
            worker.hurry().run()
        assert (job.state, processed()) == ("finished", [1] * 25)
        (row,) = Cursor.objects.all()
        assert (row.step, row.done, bytes(row.other_id).decode()) == ("each", 25, job.id)
        assert [(step.name, step.done) for step in state_of(job).ended] == [("each", 25)]

    def test_what_redis_has_lost_is_not_done_again(self, worker, batch):
        job = Grade.defer(batch.pk, 10)
        die_in(worker)
        get_connection("default").hdel(job.key, "steps")
        worker.run()
        assert (job.state, processed()) == ("finished", [1] * 25)

    def test_a_loop_over_an_iterable(self, worker, plan, did, batch):
        keys = iter(Submission.objects.order_by("pk").values_list("pk", flat=True))

        def count(key):
            Submission.objects.filter(pk=key).update(processed=1)
            did.append(key)

        @plan
        def visit(command):
            command.each(keys, count, chunk=10)

        job = Plan.defer("visit")
        worker.run()
        assert (job.state, processed(), Cursor.objects.get().done) == ("finished", [1] * 25, 25)

    def test_without_a_transaction_the_body_is_called_for_each(self, worker, plan, did, batch):
        @plan
        def visit(command):
            command.each(Submission.objects.all(), lambda row: did.append(connection.in_atomic_block), atomic=False)

        Plan.defer("visit")
        worker.run()
        assert did == [False] * 25
        assert not Cursor.objects.exists()

    def test_without_a_worker_the_chunks_are_transactions(self, batch):
        Grade.run(batch.pk, 10)
        assert processed() == [1] * 25
        assert not Cursor.objects.exists()

    @pytest.mark.parametrize(
        ("call", "reason"),
        [
            (lambda command: command.each(range(3), atomic=True), "needs a body"),
            (lambda command: command.each(range(3), print, chunk=0), "chunk=0 is impossible"),
            (lambda command: command.each(range(3), _sleep), "is a coroutine function"),
        ],
    )
    def test_what_is_impossible_is_refused(self, worker, plan, call, reason):
        @plan
        def refused(command):
            call(command)

        job = Plan.defer("refused")
        worker.run()
        assert reason in job.reason

    def test_a_coroutine_is_refused(self, worker, batch):
        Plan.is_async, call = True, Plan.call

        async def each(self):
            self.each(range(3), print)

        Plan.call = each
        try:
            job = Plan.defer("none")
            worker.run()
        finally:
            Plan.is_async, Plan.call = False, call
        assert "a transaction belongs to one thread" in job.reason


async def _sleep(item):
    pass


class InThread(threading.Thread):
    """An attempt in a thread of its own."""

    def __init__(self, claim, interruptible=None):
        super().__init__()
        self.claim, self.ended, self.interruptible = claim, None, interruptible or Interruptible()
        claim.started, claim.deadline = time.monotonic(), time.monotonic() + 100
        self.start()

    def run(self):
        try:
            self.ended = new_context().run(execution.attempt, self.claim, self.interruptible)
        finally:
            connections.close_all()


@pytest.mark.skipif(connection.vendor == "sqlite", reason="one writer at a time: the second attempt gets no lock")
@pytest.mark.parametrize("level", ["read committed", "repeatable read"])
def test_of_two_attempts_only_one_does_a_chunk(worker, batch, monkeypatch, level):
    """The first stands still inside a chunk while its worker is taken for dead, and then goes on."""
    is_inside, may_go_on, first = threading.Event(), threading.Event(), []

    def stand_still(submission):
        if not first:
            first.append(submission.pk)
            is_inside.set()
            assert may_go_on.wait(20)

    monkeypatch.setattr(Grade, "at", stand_still)
    monkeypatch.setitem(connections.settings["default"]["OPTIONS"], "isolation_level", _level(level))
    job = Grade.defer(batch.pk, 10)
    stalled = InThread(worker.claim())
    assert is_inside.wait(20)
    worker.fetch.put_back_running()
    worker.fetch._steps.held.clear()

    waits = threading.Event()
    fence = chunks.Chunks._fence
    monkeypatch.setattr(chunks.Chunks, "_fence", lambda self, row: (waits.set(), fence(self, row))[1])
    heir = InThread(worker.claim())
    assert waits.wait(20)
    may_go_on.set()
    heir.join(30)
    stalled.join(30)
    assert type(heir.ended.outcome) is Finished
    assert processed() == [1] * 25
    worker.fetch.commits.add(heir.claim, *heir.ended, 0.1)
    worker.fetch.commits.add(stalled.claim, *stalled.ended, 0.1)
    worker.fetch.flush()
    assert job.state == "finished"


def _level(name):
    if connection.vendor != "postgresql":
        return name
    from psycopg import IsolationLevel

    return {"read committed": IsolationLevel.READ_COMMITTED, "repeatable read": IsolationLevel.REPEATABLE_READ}[name]


def test_a_chunk_that_is_rolled_back_takes_its_jobs_with_it(worker, batch, plan, did):
    @plan
    def tell(command):
        command.each(Submission.objects.all(), lambda row: _tell(row, did), chunk=10)

    Plan.defer("tell")
    worker.run()
    worker.hurry().run()
    assert Note.objects.count() == 25
    assert len(did) == 25


def _tell(row, did):
    Note.objects.create(text=str(row.pk))
    transaction.on_commit(lambda: did.append(row.pk))
