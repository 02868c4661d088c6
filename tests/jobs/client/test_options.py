"""Uniqueness, expiry, missing records, context, and staggered bulk; on a real server."""

import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import OperationalError, connection, models, transaction
from django.utils import timezone, translation

from jobs import Mandate, MandateJob, control, queues, runtime
from jobs.broker.connections import get_connection
from jobs.errors import ChangeRefusedError, PrerequisiteError, SerializationError
from tests.sample.commands.limits import (
    DeferWithContext,
    Fresh,
    Guarded,
    Once,
    OnceForgotten,
    OncePerNumber,
    TellContext,
    Unguarded,
)
from tests.sample.commands.notes import WriteNote
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True)


def score(job):
    return get_connection("default").zscore(f"rq:scheduled:{job.origin}", job.id)


# --- unique_for ------------------------------------------------------------------------------


def test_a_second_defer_returns_the_first_job_marked_as_its_duplicate(places):
    first, second, other = Once.defer(7), Once.defer(number=7, fails=False), Once.defer(8)

    assert (first.duplicate, second.duplicate, other.duplicate) == (False, True, False)
    assert second.id == first.id
    assert set(places()) == {first.id, other.id}


@pytest.mark.parametrize(
    "deep", [lambda value: value, lambda value: [{"a": value}], lambda value: {7: value, 8: value}]
)
def test_the_order_in_which_a_dict_was_filled_makes_no_other_lock(deep):
    first, second = Once.defer(deep({1: "a", 2: "b"})), Once.defer(deep({2: "b", 1: "a"}))

    assert second.id == first.id
    assert Once.defer(deep({1: "b", 2: "a"})).id != first.id


def test_commands_have_locks_of_their_own():
    assert Once.defer(7).id != OnceForgotten.defer(7).id


def test_unique_key_decides_which_jobs_are_duplicates():
    first = OncePerNumber.defer(7)
    assert OncePerNumber.defer(7, fails=True).id == first.id
    assert Once.defer(7, fails=True).id != Once.defer(7).id


ENDS = {
    "finished": lambda job, worker: worker.run(),
    "cancelled": lambda job, worker: control.cancel(job),
    "deleted": lambda job, worker: control.delete(job),
    "dead": lambda job, worker: (get_connection("default").hset(job.key, "data", b"{"), worker.run()),
}


@pytest.mark.parametrize("command", [Once, OnceForgotten])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_the_lock_ends_with_its_job_however_that_ends(end, command, worker):
    first = command.defer(7)
    assert command.defer(7).duplicate
    end(first, worker)
    second = command.defer(7)

    assert not second.duplicate
    assert second.id != first.id
    assert command.defer(7).id == second.id


@pytest.mark.parametrize("state", ["scheduled", "running", "waiting", "retrying"])
def test_it_holds_while_the_job_is_unfinished_in_any_way(state, worker):
    if state == "scheduled":
        first = Once.defer(7, wait=60)
    elif state == "waiting":
        first = Once.defer(7, prereq_jobs=[WriteNote.defer("x")])
    else:
        first = Once.defer(7)
        get_connection("default").zadd("jobs:workers", {"inline": time.time()})
        worker.fetch._step(claims=True)
        if state == "retrying":
            get_connection("default").hset(first.key, mapping={"status": "scheduled", "state": "retrying"})
    assert first.state == state
    assert Once.defer(7).id == first.id


def test_the_lock_expires():
    first = Once.defer(7)
    client = get_connection("default")
    (lock,) = client.keys("jobs:unique:sample.Once:*")
    assert 3_590_000 < client.pttl(lock) <= 3_600_000
    client.delete(lock)  # the hour is over
    assert Once.defer(7).id != first.id


def test_of_many_only_the_one_that_waits_for_its_own_duplicate_is_refused(places):
    first = Once.defer(1, wait=60)
    with (
        pytest.raises(PrerequisiteError, match=f"{first.id} cannot be a prerequisite of its own duplicate"),
        transaction.atomic(),
    ):
        refused, other = Once.defer_many([(1,), (2,)], prereq_jobs=[first])
    assert places() == {first.id: ["scheduled:default"], other.id: ["deferred:default"]}
    assert (refused.is_written, other.is_written) == (False, True)


def test_a_crash_leaves_no_lock_without_a_job():
    first = Once.defer(7)
    client = get_connection("default")
    client.delete(first.key)
    client.delete("rq:queue:default")
    assert not Once.defer(7).duplicate


def test_a_dead_one_is_not_revived_beside_the_one_in_its_place(worker):
    first = Once.defer(7, fails=True)
    worker.run()
    assert first.state == "dead"
    second = Once.defer(7, fails=True)

    with pytest.raises(ChangeRefusedError, match=second.id):
        control.retry(first)
    worker.run()
    control.retry(first)
    assert first.state == "queued"
    assert Once.defer(7, fails=True).id == first.id


def test_bulk_honours_it_also_among_its_own_rows(places):
    jobs = Once.defer_many([(1,), (2,), (1,)])
    assert [job.duplicate for job in jobs] == [False, False, True]
    assert jobs[2].id == jobs[0].id
    assert len(places()) == 2


def test_in_a_transaction_a_duplicate_is_detected_at_the_commit(places):
    first = Once.defer(7)
    with transaction.atomic():
        second = Once.defer(7)
        own_id = second.id
        assert (second.duplicate, own_id != first.id) == (False, True)
    assert (second.duplicate, second.id) == (True, first.id)
    assert set(places()) == {first.id}


def test_a_script_that_is_sent_twice_recognizes_its_own_lock(monkeypatch):
    run = queues.run_script
    monkeypatch.setattr(
        queues, "run_script", lambda *args, **options: (run(*args, **options), run(*args, **options))[1]
    )
    assert not Once.defer(7).duplicate


def test_a_key_that_cannot_be_sent_is_refused_naming_it(own_commands):
    class Odd(Once):
        unique_key = staticmethod(lambda number, fails=False: object())

        def call(self):
            pass

    Odd.__module__ = "tests.sample.commands.limits"
    with pytest.raises(SerializationError, match="'unique_key'"):
        Odd.defer(7)


# --- expires_in ------------------------------------------------------------------------------


def expire(job):
    get_connection("default").hset(job.key, "expires_at", repr(time.time() - 1))


def test_a_job_that_was_not_begun_in_time_is_discarded_visibly(worker):
    job = Fresh.defer()
    expire(job)
    worker.run()

    assert job.state == "discarded"
    assert job.reason.startswith("expired: not begun by 20")
    assert job.history[-1].name == "expired"
    assert not Note.objects.exists()


def test_it_runs_in_time_and_does_not_expire_once_begun(worker):
    job = Fresh.defer()
    worker.step()
    expire(job)
    worker.run()
    assert (job.state, job.return_value()) == ("finished", "in time")


def test_the_time_counts_from_when_it_is_due():
    job = Fresh.defer(wait=3_600)
    expires = float(get_connection("default").hget(job.key, "expires_at"))
    assert expires - time.time() == pytest.approx(3_660, abs=5)


def test_a_tampered_time_does_not_stop_the_job(worker):
    job = Fresh.defer()
    get_connection("default").hset(job.key, "expires_at", "soon")
    worker.run()
    assert job.state == "finished"


# --- missing records -------------------------------------------------------------------------


def miss(job, worker):
    """Let the five seconds of rechecks pass."""
    worker.run()
    assert job.state == "scheduled"
    assert "sample.Note:" in job.reason
    get_connection("default").hset(job.key, mapping={"progress": b'{"since": {"records": 1}}', "more": 1})
    worker.hurry().run()


def test_a_job_whose_record_is_gone_is_discarded_with_every_reference_named(worker):
    first, second = Note.objects.create(), Note.objects.create()
    job = Guarded.defer(first, second)
    keys = first.pk, second.pk
    Note.objects.all().delete()
    miss(job, worker)

    assert job.state == "discarded"
    assert all(f"sample.Note:{key}" in job.reason for key in keys)


def test_without_the_guard_that_is_a_failure_as_any_other(worker):
    note = Note.objects.create()
    job = Unguarded.defer(note)
    note.delete()
    miss(job, worker)

    assert job.state == "retrying"
    assert job.progress.failures == {"": 1}
    Note.objects.create(pk=job.command_kwargs.get("pk") or int(job.reason.rpartition(":")[2].rstrip(".")), text="back")
    worker.hurry().run()
    assert (job.state, job.return_value()) == ("finished", "back")


def test_a_record_that_is_committed_late_is_fetched(worker):
    note = Note.objects.create(text="late")
    job = Guarded.defer(note)
    key = note.pk
    note.delete()
    worker.run()
    assert (job.state, score(job) - time.time() < 2) == ("scheduled", True)
    Note.objects.create(pk=key, text="late")
    worker.hurry().run()

    assert job.return_value() == "late"
    assert job.progress.failures == {}


def test_looking_again_ends_after_five_seconds(worker, monkeypatch):
    note = Note.objects.create()
    job = Guarded.defer(note)
    note.delete()
    begun, looks = time.time(), 0
    monkeypatch.setattr(runtime, "now", lambda: begun + looks)
    while job.state in {"queued", "scheduled"}:
        worker.hurry().run()
        looks += 1
    assert (job.state, looks) == ("discarded", 6)


def test_a_database_that_is_down_is_not_a_missing_record(worker, monkeypatch):
    job = Guarded.defer(Note.objects.create())

    def down(*args, **kwargs):
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(models.QuerySet, "in_bulk", down)
    worker.run()
    assert job.state == "retrying"
    assert "server closed" in job.reason


def test_an_unknown_command_is_looked_for_during_a_day(worker, monkeypatch):
    job = WriteNote.defer("x")
    client = get_connection("default")
    client.hset(job.key, "data", client.hget(job.key, "data").replace(b"sample.WriteNote", b"sample.NextRelease"))
    worker.run()
    assert (job.state, job.reason) == ("retrying", "unknown command")
    assert score(job) - time.time() < 16

    begun = time.time()
    for hours in (1, 12, 23.9):
        monkeypatch.setattr(runtime, "now", lambda hours=hours: begun + hours * 3_600)
        worker.hurry().run()
        assert job.state == "retrying"
    monkeypatch.setattr(runtime, "now", lambda: begun + 86_401)
    worker.hurry().run()
    assert job.state == "dead"
    assert job.reason.startswith("unknown command: UnknownCommandError: Unknown command: 'sample.NextRelease'")


def test_a_command_that_a_newer_release_brings_runs(worker):
    job = WriteNote.defer("x")
    client = get_connection("default")
    data = client.hget(job.key, "data")
    client.hset(job.key, "data", data.replace(b"sample.WriteNote", b"sample.NextRelease"))
    worker.run()
    client.hset(job.key, "data", data)  # as if this release had it now
    worker.hurry().run()
    assert job.state == "finished"


def newer(job):
    """Change the payload to that of a release which this one cannot read."""
    client = get_connection("default")
    data = client.hget(job.key, "data")
    client.hset(job.key, "data", data.replace(b'"jobs.execution.perform"', b'"jobs.execution.perform:2"'))
    return data


def test_a_newer_payload_waits_for_a_newer_release_and_is_shown_as_the_job_it_is(worker, monkeypatch):
    job = WriteNote.defer("x")
    data = newer(job)
    begun = time.time()
    for hours in (0, 1, 23.9):
        monkeypatch.setattr(runtime, "now", lambda hours=hours: begun + hours * 3_600)
        worker.hurry().run()
        assert (job.state, job.reason) == ("retrying", "newer payload")
    known = MandateJob.fetch(job.id, connection=get_connection("default"))
    assert (known.command_name, known.description) == ("sample.WriteNote", "sample.WriteNote('x')")
    assert "version 2, and this release reads up to 1" in job.results()[0].exc_string

    get_connection("default").hset(job.key, "data", data)  # as if a newer release had come
    worker.hurry().run()
    assert job.state == "finished"


def test_a_newer_payload_for_which_no_release_comes_in_a_day_is_dead_and_can_be_retried(worker, monkeypatch):
    job = WriteNote.defer("x")
    data = newer(job)
    begun = time.time()
    worker.run()
    monkeypatch.setattr(runtime, "now", lambda: begun + 86_401)
    worker.hurry().run()
    assert job.state == "dead"
    assert job.reason.startswith("newer payload: NewerPayloadError: The payload is of version 2")

    get_connection("default").hset(job.key, "data", data)
    control.retry(job)
    worker.run()
    assert job.state == "finished"


@pytest.mark.parametrize(
    "function", ["jobs.execution.perform:x", "jobs.execution.perform:", "jobs.execution.perform:²"]
)
def test_an_invalid_version_is_dead_immediately(function, worker):
    job = WriteNote.defer("x")
    client = get_connection("default")
    data = client.hget(job.key, "data").decode()
    client.hset(job.key, "data", data.replace("jobs.execution.perform", function))
    worker.run()
    assert job.state == "dead"


# --- context ---------------------------------------------------------------------------------


def test_language_zone_and_the_projects_values_are_the_callers(worker):
    note = Note.objects.create(text="fresh")
    values = Mandate.context(request_id="7f3a", note=note)
    with translation.override("de"), timezone.override(ZoneInfo("Asia/Kolkata")), values:
        job = TellContext.defer()
    plain = TellContext.defer()
    worker.run()

    assert job.return_value() == ["de", "Asia/Kolkata", "7f3a", "fresh"]
    assert plain.return_value() == ["en", "UTC", None, None]


def test_they_are_kept_through_requeues_and_handed_on(worker):
    with Mandate.context(request_id="7f3a"):
        job = DeferWithContext.defer()
    worker.run()
    handed_on = MandateJob.fetch(job.return_value(), connection=job.connection)
    assert handed_on.return_value()[2] == "7f3a"


def test_contexts_nest_and_end():
    with Mandate.context(a=1, b=2):
        with Mandate.context(b=3):
            assert [Mandate.context["a"], Mandate.context["b"], sorted(Mandate.context)] == [1, 3, ["a", "b"]]
        assert Mandate.context["b"] == 2
    assert Mandate.context.get("a", "gone") == "gone"
    with pytest.raises(KeyError):
        Mandate.context["a"]


def test_a_value_that_cannot_be_sent_is_refused_naming_it():
    with Mandate.context(odd=object()), pytest.raises(SerializationError, match="context's value 'odd'"):
        TellContext.defer()


def test_a_job_without_any_has_no_field_for_it():
    assert not get_connection("default").hexists(TellContext.defer().key, "context")


# --- defer_many ------------------------------------------------------------------------------


@pytest.mark.parametrize("spread", [60, timedelta(minutes=1)])
def test_spread_makes_the_rows_due_evenly_over_a_time(spread):
    jobs = WriteNote.defer_many([(str(n),) for n in range(4)], wait=3_600, spread=spread)
    offsets = [score(job) - time.time() - 3_600 for job in jobs]
    assert offsets == pytest.approx([0, 15, 30, 45], abs=2)


def test_spread_counts_from_now_or_from_a_time():
    at = datetime(2100, 1, 1, tzinfo=UTC)
    jobs = WriteNote.defer_many([("a",), ("b",)], wait_until=at, spread=10)
    assert [score(job) - at.timestamp() for job in jobs] == [0, 5]
    assert WriteNote.defer_many([], spread=10) == []


@pytest.mark.parametrize("spread", [-1, "x", float("nan")])
def test_an_invalid_spread_is_refused(spread, places):
    with pytest.raises(ValueError, match="spread="):
        WriteNote.defer_many([("a",)], spread=spread)
    assert places() == {}


def test_bulk_waits_for_the_commit_and_a_rollback_drops_it(places):
    with pytest.raises(RuntimeError), transaction.atomic():
        WriteNote.defer_many([("a",)] * 3, spread=3)
        raise RuntimeError
    assert places() == {}
    assert connection.in_atomic_block is False
