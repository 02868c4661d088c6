"""Pushes that collapse into the job of their key that has not begun; on a real server."""

import threading
from datetime import timedelta

import orjson
import pytest
from django.db import connection, transaction
from django.utils import timezone, translation

from jobs import Batch, Collapse, Mandate, control, queues
from jobs.attempts.outcomes import Finished, GivenBack
from jobs.broker import keys
from jobs.broker.connections import get_connection
from jobs.client.new_job import new_job
from jobs.errors import CommandDefinitionError, SerializationError
from jobs.job import JobState
from jobs.scheduler import Entry, add, run_now
from jobs.worker.connection import Wire
from jobs.worker.recovery import recover
from jobs.worker.release import release
from tests.jobs.conftest import InlineWorker
from tests.sample.commands.collapsing import (
    Save,
    SaveAll,
    SaveAtOnce,
    SaveByInitial,
    SaveFirst,
    SaveInTime,
    SaveInTurn,
    SaveLimited,
)
from tests.sample.commands.notes import WriteNote
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True)


def due(job):
    return job.connection.zscore(f"rq:scheduled:{job.origin}", job.id)


def field(job, name):
    return job.connection.hget(job.key, name)


def text(job):
    *_, fields = orjson.loads(field(job, "data"))
    return fields["text"]


def save(user=7, text="a", command=Save, **fields):
    return command.defer(user=user, text=text, **fields)


def texts():
    return list(Note.objects.order_by("pk").values_list("text", flat=True))


def collapsed(job):
    return [event.reason for event in job.history if event.name == "collapsed"]


# --- into a job that has not begun -----------------------------------------------------------


def test_a_push_collapses_into_the_job_of_its_key_and_its_handle_names_that_job(places):
    first, second, other = save(text="a"), save(text="b"), save(user=8)

    assert (first.duplicate, second.duplicate, other.duplicate) == (False, True, False)
    assert second.id == first.id
    assert places() == {first.id: ["scheduled:default"], other.id: ["scheduled:default"]}
    assert (second.state, second.is_written) == (JobState.SCHEDULED, True)


def test_the_job_takes_the_new_arguments_and_the_new_time(worker):
    job = save(text="a")
    before = due(job)
    save(text="b")

    assert text(job) == "b"
    assert due(job) > before
    worker.hurry().run()
    assert texts() == ["b"]


def test_with_keep_first_it_keeps_its_arguments_and_takes_the_new_time():
    job = save(text="a", command=SaveFirst)
    before = due(job)
    save(text="b", command=SaveFirst)

    assert text(job) == "a"
    assert due(job) > before


def test_the_job_is_put_off_to_at_most_after_the_first_push():
    job = save()
    assert float(field(job, "latest")) - due(job) == pytest.approx(540, abs=1)
    job.connection.hset(job.key, "latest", repr(due(job) + 0.000001))  # as if the first push was long ago
    save(text="b")
    save(text="c")

    assert due(job) == pytest.approx(float(field(job, "latest")), abs=1e-6, rel=0)
    assert text(job) == "c"


def test_a_job_that_a_person_has_put_off_further_stays_where_it_is(worker):
    job = save()
    control.reschedule(job, timezone.now() + timedelta(days=1))
    later = due(job)
    save(text="b")

    assert due(job) == later
    assert text(job) == "b"


def test_a_queued_job_keeps_its_place(worker, places):
    first, second = save(user=1), save(user=2)
    worker.hurry().promotion.run(["default"])
    in_queue = queues.get_queue("default").job_ids
    assert save(user=1, text="b").id == first.id

    assert sorted(in_queue) == sorted([first.id, second.id])
    assert queues.get_queue("default").job_ids == in_queue
    assert text(first) == "b"


def test_without_a_wait_a_job_is_in_its_queue_at_once_and_takes_pushes_until_it_begins(places):
    job = save(command=SaveAtOnce)
    assert places() == {job.id: ["queue:default"]}
    assert save(text="b", command=SaveAtOnce).id == job.id
    assert (text(job), places()) == ("b", {job.id: ["queue:default"]})


def test_a_job_that_a_worker_gave_back_unbegun_takes_pushes(worker):
    job = save(command=SaveAtOnce)
    claim = worker.claim()
    assert save(user=8, command=SaveAtOnce).id != job.id
    worker.fetch.commits.add(claim, GivenBack(), "", 0.0)
    worker.fetch.flush()
    assert job.state == "queued"
    assert save(text="b", command=SaveAtOnce).id == job.id
    assert text(job) == "b"


def test_the_job_runs_in_the_context_of_the_last_push_with_its_options():
    with translation.override("hu"):
        job = save(text="a")
    assert field(job, "context")
    save(text="b")
    assert field(job, "context") is None
    with translation.override("fr"):
        save(text="c")
    assert orjson.loads(field(job, "context"))["language"] == "fr"


def test_what_else_the_claim_has_to_read_of_the_job_stays(worker):
    with translation.override("hu"):
        job = save(text="a")
    job.connection.hset(job.key, "more", "1w")  # as if something waited for its result
    with translation.override("fr"):
        save(text="b")
    assert field(job, "more") == b"1w"
    worker.hurry().run()
    assert job.return_value() == "fr"


def test_the_deadline_counts_from_the_new_time():
    job = save(command=SaveInTime)
    before = float(field(job, "expires_at"))
    assert before - due(job) == pytest.approx(30, abs=1e-3)
    save(command=SaveInTime)
    assert float(field(job, "expires_at")) > before
    assert float(field(job, "expires_at")) - due(job) == pytest.approx(30, abs=1e-3)


def test_a_queued_job_that_would_expire_has_its_deadline_put_off(worker):
    job = save(command=SaveInTime)
    worker.hurry().promotion.run(["default"])
    job.connection.hset(job.key, "expires_at", 1)
    save(text="b", command=SaveInTime)
    worker.run()
    assert (job.state, texts()) == ("finished", ["b"])


def test_the_history_counts_the_pushes_that_have_collapsed():
    job = save()
    assert collapsed(job) == []
    save()
    assert collapsed(job) == ["once"]
    Save.defer_many([(7, str(number)) for number in range(13)])
    assert collapsed(job) == ["14 times"]
    assert [event.name for event in job.history] == ["queued", "collapsed"]


def test_defer_many_collapses_in_order(worker):
    handles = Save.defer_many([(7, "a"), (8, "b"), {"user": 7, "text": "c"}])

    assert [handle.duplicate for handle in handles] == [False, False, True]
    assert handles[0].id == handles[2].id
    worker.hurry().run()
    assert sorted(texts()) == ["b", "c"]


# --- into no other ---------------------------------------------------------------------------


def begun(job, worker):
    worker.hurry().promotion.run(["default"])
    assert worker.claim().job_id == job.id


def retrying(job, worker):
    worker.hurry().run()
    assert job.state == "retrying"


def interrupted(job, worker):
    begun(job, worker)
    recover(Wire("default"), "default", only=worker.name)
    assert (job.state, bool(field(job, "interruptions"))) == ("queued", True)


def resumed(job, worker):
    begun(job, worker)
    recover(Wire("default"), "default", only=worker.name)
    job.connection.hdel(job.key, "interruptions", "survived")
    job.connection.hset(job.key, "steps", "[]")  # as if it had gone on from a checkpoint


def dead(job, worker):
    for _ in range(4):
        worker.hurry().run()
    assert job.state == "dead"


def revived(job, worker):
    dead(job, worker)
    control.retry(job)
    assert job.state == "queued"


def retried_by_a_person(job, worker):
    retrying(job, worker)
    control.retry(job)
    assert (job.state, field(job, "progress")) == ("queued", None)


def requeued_by_rq(job, worker):
    dead(job, worker)
    job.connection.hset(job.key, "status", "queued")
    job.connection.rpush("rq:queue:default", job.id)


def retried_while_it_waits(job, worker):
    control.cancel(job)
    control.retry(job)
    assert job.state == "queued"


LEFT_ALONE = (
    begun,
    retrying,
    interrupted,
    resumed,
    dead,
    revived,
    retried_by_a_person,
    requeued_by_rq,
    retried_while_it_waits,
)


@pytest.mark.parametrize("happens", LEFT_ALONE, ids=lambda each: each.__name__)
def test_a_job_that_has_begun_or_ended_is_left_alone_and_one_more_waits(happens, worker):
    first = save(fails=True)
    happens(first, worker)
    before = first.connection.hgetall(first.key)
    second, third = save(text="b"), save(text="c")

    assert first.connection.hgetall(first.key) == before
    assert (second.duplicate, third.duplicate, third.id) == (False, True, second.id)
    assert second.id != first.id
    assert text(second) == "c"


@pytest.mark.parametrize("end", [control.cancel, control.delete], ids=lambda each: each.__name__)
def test_a_job_that_a_person_has_removed_takes_no_push(end):
    first = save()
    end(first)
    assert save().id != first.id


def test_a_finished_job_takes_no_push(worker):
    save()
    worker.hurry().run()
    second = save(text="b")
    assert not second.duplicate
    worker.hurry().run()
    assert texts() == ["a", "b"]


def test_a_job_run_now_by_a_person_takes_pushes_until_it_begins(worker):
    job = save()
    control.run_now(job)
    assert save(text="b").id == job.id
    worker.run()
    assert texts() == ["b"]


def test_what_a_person_or_a_recurring_entry_enqueues_does_not_collapse(worker):
    job = save()
    copied = queues.copy(job)
    add(Entry("save", Save, args=(7, "entry"), every=3_600))
    run = run_now("save")

    assert len({job.id, copied.id, run if isinstance(run, str) else run.id}) == 3
    assert (copied.duplicate, text(job)) == (False, "a")


# --- beside limits ---------------------------------------------------------------------------


@pytest.fixture
def limited(worker):
    """A job that waits in the lane of its shop, behind one that runs."""
    SaveLimited.defer(1, "a", "first")
    holder = InlineWorker("holder")
    held = holder.claim()
    job = SaveLimited.defer(2, "a", "old")
    assert worker.claim() is None
    assert job.state == JobState.LIMITED

    def let_go():
        holder.fetch.commits.add(held, Finished(None, 0), "sample.SaveLimited", 0.0)
        holder.fetch.flush()

    yield job, let_go
    holder.close()


def test_a_job_that_waits_for_a_limit_takes_calls_with_the_same_limits_and_keeps_its_place(worker, limited):
    job, let_go = limited
    assert SaveLimited.defer(2, "a", "new").id == job.id
    assert (job.state, collapsed(job)) == (JobState.LIMITED, ["once"])
    let_go()
    assert SaveLimited.defer(2, "a", "newest").id == job.id  # it was woken
    worker.run()
    assert texts() == ["newest"]


def test_a_call_that_needs_another_place_is_a_job_of_its_own(worker, limited):
    job, let_go = limited
    other = SaveLimited.defer(2, "b", "elsewhere")
    assert (other.duplicate, job.state) == (False, JobState.LIMITED)
    worker.run()
    let_go()
    worker.run()
    assert texts() == ["elsewhere", "old"]
    assert job.connection.keys("jobs:lane*") == []


def test_a_queued_job_takes_the_limits_of_the_last_call(worker):
    job = SaveLimited.defer(2, "a", "old")
    assert SaveLimited.defer(2, "b", "new").id == job.id
    assert worker.claim()
    assert [key.decode() for key in job.connection.keys("jobs:slots:*")] == [
        'jobs:slots:sample.SaveLimited:concurrency:shop="b"'
    ]


def test_a_job_with_calls_of_two_batches_is_a_member_of_both(worker):
    jobs = []
    for text_ in ("one", "two"):
        with Batch(on_success=WriteNote.prepare(f"after {text_}")):
            jobs.append(save(text=text_))
    save(text="three")
    worker.hurry().run()
    while left := worker.client.smembers("jobs:releasing"):
        for member in left:
            release(worker.client, member)
        worker.run()

    assert jobs[0].id == jobs[1].id
    assert sorted(texts()) == ["after one", "after two", "three"]


def test_a_job_that_waits_for_its_turn_takes_calls_of_its_tenant(worker):
    SaveInTurn.defer(1, "a", "first")
    job = SaveInTurn.defer(2, "a", "old")
    assert job.state == JobState.LIMITED
    assert SaveInTurn.defer(2, "a", "new").id == job.id
    assert not SaveInTurn.defer(2, "b", "other").duplicate
    worker.run()
    assert texts() == ["first", "other", "new"]
    assert job.connection.keys("jobs:lane*") == []


# --- the key ---------------------------------------------------------------------------------


def test_the_key_is_a_field_several_a_method_or_none():
    assert save(user={"b": 1, "a": 2}).id == save(user={"a": 2, "b": 1}).id
    assert save(command=SaveAll, user=1).id == save(command=SaveAll, user=2).id
    assert SaveByInitial.defer("Ada").id == SaveByInitial.defer("anna", text="b").id != SaveByInitial.defer("Bo").id
    assert save().id != save(command=SaveFirst).id  # commands have keys of their own


def test_a_long_key_is_hashed_and_named_as_the_record_says(valkey):
    save(user="x" * 10_000)
    (key,) = get_connection("default").keys("jobs:collapse:*")
    assert len(key) < 100
    with pytest.raises(LookupError, match="no name"):
        SaveByInitial.defer("")
    with pytest.raises(SerializationError, match="'user'"):
        save(user=object())


def test_a_job_may_lie_in_another_queue_than_the_push_names(places):
    job = save()
    assert Save.using(queue="low").defer(7, "b").id == job.id
    control.run_now(job)
    control.move(job, "background")
    assert save(text="c").id == job.id
    assert places() == {job.id: ["queue:background"]}
    assert text(job) == "c"


def test_the_key_goes_a_day_after_the_last_wait():
    client = get_connection("default")
    save()
    (key,) = client.keys("jobs:collapse:*")
    assert 86_400 < client.ttl(key) <= 86_460
    client.expire(key, 10)
    save()
    assert 86_400 < client.ttl(key) <= 86_460


@pytest.mark.parametrize("kind", ["list", "nobody", "no hash", "other key", "no place"])
def test_a_key_or_a_record_that_is_wrong_is_no_job(kind):
    client = get_connection("default")
    job = save()
    (key,) = client.keys("jobs:collapse:*")
    if kind == "list":
        client.delete(key)
        client.rpush(key, "x")
    elif kind == "nobody":
        client.set(key, "nobody")
    elif kind == "no hash":
        client.delete(job.key)
        client.set(job.key, "x")
    elif kind == "other key":
        client.set(key, WriteNote.defer("x").id)
    else:
        client.zrem("rq:scheduled:default", job.id)
    second = save(text="b")

    assert not second.duplicate
    assert save(text="c").id == second.id


ODD = [b"", b"x", b"-1", b"1e999", b"9" * 400, b"nan", b"\xff"]


@pytest.mark.parametrize("name", ["latest", "collapsed", "origin"])
@pytest.mark.parametrize("value", ODD)
def test_a_record_with_odd_fields_stops_no_push(name, value):
    job = save()
    job.connection.hset(job.key, name, value)
    save(text="b")
    assert job.history
    assert save(user=8).state == "scheduled"


# --- transactions ----------------------------------------------------------------------------


def test_in_a_transaction_pushes_collapse_when_it_commits():
    first = save(text="a")
    with transaction.atomic():
        second, third = save(text="b"), save(text="c")
        assert (text(first), second.duplicate) == ("a", False)
        later = WriteNote.defer("x", prereq_jobs=[third])

    assert second.id == third.id == first.id
    assert text(first) == "c"
    assert later.prerequisites == [first.id]


def test_the_first_of_a_transaction_is_the_job_of_the_others():
    with transaction.atomic():
        first, second = save(text="a"), save(text="b")
        waiting = WriteNote.defer("x", prereq_jobs=[second])
    assert (first.duplicate, second.id, text(first)) == (False, first.id, "b")
    assert waiting.prerequisites == [first.id]


def test_a_rollback_changes_nothing():
    first = save(text="a")
    before = due(first)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        second = save(text="b")
        raise ZeroDivisionError
    assert (text(first), due(first), second.duplicate, second.is_written) == ("a", before, False, False)
    assert second.state is None


# --- sent twice, and by many -----------------------------------------------------------------


def test_a_push_that_is_sent_twice_counts_once():
    job = save(text="a")
    new = new_job(Save, (7, "b"), {}, queue="default")
    queues.push([new])
    at = due(job)
    (again,) = queues.push([new])

    assert (again.id, collapsed(job), due(job)) == (job.id, ["once"], at)


def test_a_first_push_that_is_sent_twice_is_the_same_job(places):
    new = new_job(Save, (7, "b"), {}, queue="default")
    queues.push([new])
    (again,) = queues.push([new])
    assert (again.duplicate, collapsed(again), list(places())) == (False, [], [new.id])


def test_of_many_threads_one_makes_the_job():
    handles = []

    def defer(number):
        handles.append(save(text=str(number)))
        connection.close()

    threads = [threading.Thread(target=defer, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sum(not handle.duplicate for handle in handles) == 1
    assert len({handle.id for handle in handles}) == 1
    assert collapsed(handles[0]) == ["7 times"]


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"wait": -1}, "wait must be"),
        ({"wait": None}, "wait must be"),
        ({"wait": True}, "wait must be"),
        ({"wait": float("nan")}, "wait must be"),
        ({"wait": 5, "at_most": 4}, "at_most must be"),
        ({"wait": 5, "at_most": "x"}, "at_most must be"),
        ({"wait": 5, "at_most": timedelta(days=365_250)}, "at_most must be"),
        ({"wait": 5, "keep": "newest"}, "keep must be"),
        ({"wait": 5, "key": ()}, "key must be"),
        ({"wait": 5, "key": 7}, "key must be"),
        ({"wait": 5, "key": ["user", 7]}, "key must be"),
        ({"wait": 5, "key": ""}, "key must be"),
    ],
)
def test_impossible_values_are_refused_where_they_are_written(options, wanted):
    with pytest.raises(CommandDefinitionError, match=wanted):
        Collapse(**options)


def test_a_key_whose_body_would_not_run_is_refused():
    async def later(user):
        return user

    with pytest.raises(CommandDefinitionError, match="a coroutine function"):
        Collapse(wait=5, key=later)


def defined(**options):
    return type("Odd", (Mandate,), {"call": lambda self: None, "__annotations__": {"user": int}, **options})


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"collapse": Collapse(wait=5, key="shop")}, r"'shop', which is no field. The fields are: user"),
        ({"collapse": Collapse(wait=5, key=["user", "shop"])}, "'shop'"),
        ({"collapse": 5}, "collapse = 5 is impossible"),
        ({"collapse": Collapse(wait=5), "unique_for": 60}, "unique_for = 60 is impossible"),
    ],
)
def test_a_command_with_an_impossible_collapse_is_refused(options, wanted):
    with pytest.raises(CommandDefinitionError, match=wanted):
        defined(**options)


def test_a_base_class_may_name_a_field_that_its_commands_have():
    base = type("Base", (Mandate,), {"collapse": Collapse(wait=5, key="user")})
    assert type("Own", (base,), {"__annotations__": {"user": int}, "call": lambda self: None}).collapse.key == "user"


@pytest.mark.parametrize(
    "options",
    [{"wait": 5}, {"wait": 0}, {"wait_until": "tomorrow"}, {"prereq_jobs": ["a"]}, {"prereq_jobs": []}],
    ids=str,
)
def test_a_time_or_prerequisites_of_its_own_are_refused_for_one_push(options, places):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name}=.* is impossible for Save: its Collapse"):
        Save.defer(7, "a", **options)
    with pytest.raises(ValueError, match=f"{name}="):
        Save.defer_many([(7, "a")], **options)
    with pytest.raises(ValueError, match=f"{name}="):
        Save.using(**options).defer(7, "a")
    assert places() == {}


def test_spread_is_refused():
    with pytest.raises(ValueError, match="spread=5"):
        Save.defer_many([(7, "a")], spread=5)


def test_run_calls_it_at_once():
    assert Save.run(7, "now") == translation.get_language()
    assert texts() == ["now"]


def test_a_plain_command_has_no_key_and_no_field():
    job = WriteNote.defer("x")
    assert job.connection.keys("jobs:*") == []
    assert keys.collapse("a", "b") == "jobs:collapse:a:b"
    assert set(job.connection.hkeys(job.key)) == {b"created_at", b"enqueued_at", b"origin", b"status", b"data"}
