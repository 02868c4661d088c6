"""Durable jobs that collapse: sent twice, sent late, and kept until the job that has their arguments has ended."""

import orjson
import pytest
from django.db import transaction

from jobs import queues
from jobs.models import Unsent
from jobs.outbox import rows as outbox
from jobs.outbox.relay import relays
from jobs.record import packed
from tests.sample.commands.collapsing import SaveDurably
from tests.sample.commands.durable import KeepRow
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True)


def save(text, user=7):
    return SaveDurably.defer(user=user, text=text)


def text(job):
    *_, fields = orjson.loads(job.connection.hget(job.key, "data"))
    return fields["text"]


def texts():
    return list(Note.objects.order_by("pk").values_list("text", flat=True))


@pytest.fixture
def keep(settings):
    settings.JOBS = settings.JOBS | {"OUTBOX_KEEP": "ended"}


def sweep():
    for relay in relays():
        while relay.sweep():
            pass


def drain():
    return sum(relay.drain() for relay in relays())


def test_it_is_marked_as_sent_and_the_second_sending_answers_the_same(monkeypatch, rows, relay, worker):
    first = save("a")
    monkeypatch.setattr(outbox, "sent", lambda ids: None)
    with transaction.atomic():
        second = save("b")
        own_id = second.id
    monkeypatch.undo()
    assert (second.id, second.duplicate, rows()) == (first.id, True, [own_id])
    assert first.connection.get(f"jobs:sent:{own_id}") == first.id.encode()
    save("c")
    assert relay() == 1
    assert (text(first), rows()) == ("c", [])
    worker.hurry().run()
    assert texts() == ["c"]


def test_sent_again_after_its_job_has_ended_it_makes_no_job(monkeypatch, rows, relay, worker):
    save("a")
    monkeypatch.setattr(outbox, "sent", lambda ids: None)
    with transaction.atomic():
        save("b")
    monkeypatch.undo()
    worker.hurry().run()
    assert (relay(), rows(), queues.get_queue("default").job_ids) == (1, [], [])
    worker.hurry().run()
    assert texts() == ["b"]


def test_those_deferred_while_redis_was_away_collapse_when_they_are_sent(valkey, rows, relay, worker):
    valkey.kill()
    first, second, other = save("a"), save("b"), save("c", user=8)
    later = KeepRow.defer("later", prereq_jobs=[second])
    valkey.start()

    assert rows() == [first.id, second.id, other.id, later.id]
    assert relay() == 4
    assert [each.state for each in (first, other, later)] == ["scheduled", "scheduled", "waiting"]
    assert second.connection.exists(second.key) == 0
    worker.hurry().run()
    assert sorted(texts()) == ["b", "c", "later"]


def test_a_row_keeps_how_its_job_collapses():
    with transaction.atomic():
        job = save("a")
        row = Unsent.objects.get()
    unpacked = packed.unpack(row.job_id, row.queue, bytes(row.packed))
    assert unpacked.collapse.key.startswith("jobs:collapse:sample.SaveDurably:")
    assert unpacked.collapse[1:] == (60, 600, "last")
    assert job.connection.hget(job.key, "collapse") == unpacked.collapse.key.encode()


@pytest.mark.usefixtures("keep")
def test_a_kept_row_stays_until_the_job_that_has_its_arguments_has_ended(rows, worker):
    first = save("a")
    with transaction.atomic():
        second = save("b")
        own_id = second.id
    sweep()
    assert rows() == [first.id, own_id]
    assert drain() == 0

    worker.hurry().run()
    sweep()
    assert (drain(), rows(), texts()) == (1, [], ["b"])


@pytest.mark.usefixtures("keep")
def test_if_redis_loses_everything_the_job_is_made_anew_with_the_last_arguments(valkey, worker):
    save("a")
    save("b")
    sweep()
    with valkey.client() as client:
        client.flushall()
    sweep()
    worker.hurry().run()
    assert texts() == ["b"]


@pytest.mark.usefixtures("keep")
@pytest.mark.parametrize("value", ["", "nobody"])
def test_a_trace_that_names_no_job_that_waits_has_ended(rows, value):
    first = save("a")
    with transaction.atomic():
        own_id = save("b").id
    first.connection.set(f"jobs:sent:{own_id}", value)
    sweep()
    assert rows() == [first.id]
