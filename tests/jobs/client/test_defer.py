"""`defer`: what it writes, when, and what it refuses at the caller."""

import math
import time
import zlib
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from asgiref.sync import async_to_sync
from django.db import transaction
from django.test import override_settings
from django.utils import timezone
from rq.job import Job
from rq.serializers import JSONSerializer

from config.queues import rq_queues
from jobs import Mandate, MandateJob, checks, queues, scheduler
from jobs.broker.connections import CLIENT_OPTIONS, get_connection
from jobs.errors import RedisUnavailableError, SerializationError, UnknownQueueError
from jobs.job import JobState
from jobs.queues import get_queue
from tests.sample.commands.notes import Fail, KeepSecret, ShoutNote, WriteNote, WriteNoteSlowly
from tests.sample.models import Note

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def stored(job):
    return {k.decode(): v for k, v in job.connection.hgetall(job.key).items()}


def test_a_job_is_in_its_queue_with_a_lean_record():
    job = WriteNote.defer("hello")

    assert get_queue("default").job_ids == [job.id]
    record = stored(job)
    assert set(record) == {"created_at", "enqueued_at", "origin", "status", "data"}
    assert orjson.loads(record["data"]) == ["jobs.execution.perform", None, ["sample.WriteNote", "hello"], {}]
    assert job.state is JobState.QUEUED


def test_nothing_comes_before_queued_in_its_history_although_the_clocks_of_processes_differ():
    job = WriteNote.defer("hello")
    get_connection("default").hset(job.key, "started_at", "2026-01-01T00:00:00.000000Z")
    assert [event.name for event in job.history] == ["queued", "started"]


def test_rq_reads_the_job_as_its_own():
    job = WriteNote.defer(text="hello")
    read = Job.fetch(job.id, connection=job.connection, serializer=JSONSerializer)

    assert (read.func_name, read.args, read.kwargs) == (
        "jobs.execution.perform",
        ["sample.WriteNote"],
        {"text": "hello"},
    )
    assert read.is_queued
    assert read.enqueued_at is not None


@pytest.mark.django_db(transaction=True)
def test_the_job_has_the_name_and_arguments_of_its_command():
    note = Note.objects.create(text="x")
    job = MandateJob.fetch(ShoutNote.defer(note, times=2).id, connection=get_connection("critical"))

    assert job.origin == "critical"
    assert job.command_name == "sample.ShoutNote"
    assert (job.command_args, job.command_kwargs) == ([note], {"times": 2})
    assert job.description == f"sample.ShoutNote(sample.Note:{note.pk}, times=2)"


def test_private_arguments_and_unreadable_payloads_are_not_shown():
    secret = KeepSecret.defer("hunter2")
    broken = WriteNote.defer("x")
    broken.connection.hset(broken.key, "data", b"\xff{")

    assert MandateJob.fetch(secret.id, connection=secret.connection).description == "sample.KeepSecret(...)"
    assert MandateJob.fetch(broken.id, connection=secret.connection).description == "(unreadable payload)"


def test_only_options_that_differ_from_the_defaults_are_stored():
    with override_settings(JOBS={"QUEUES": {"low": ""}}):
        record = stored(WriteNoteSlowly.defer("x"))

    assert record.keys() - {"created_at", "enqueued_at", "origin", "status", "data"} == {
        "timeout",
        "result_ttl",
        "more",
    }
    assert (record["timeout"], record["result_ttl"]) == (b"30", b"0")


def test_a_large_payload_is_compressed():
    job = WriteNote.defer("x" * 2_000)

    assert len(stored(job)["data"]) < 200
    assert orjson.loads(zlib.decompress(stored(job)["data"]))[2][1] == "x" * 2_000
    assert MandateJob.fetch(job.id, connection=job.connection).command_args == ["x" * 2_000]


@pytest.mark.parametrize(
    "options",
    [
        {"wait": 300},
        {"wait": timedelta(minutes=5)},
        {"wait_until": "in 5 minutes"},
    ],
)
def test_a_wait_puts_the_job_in_the_scheduled_registry(options):
    if "wait_until" in options:
        options = {"wait_until": timezone.now() + timedelta(minutes=5)}
    job = WriteNote.defer("later", **options)

    queue = get_queue("default")
    assert queue.job_ids == []
    assert queue.connection.zscore("rq:scheduled:default", job.id) == pytest.approx(time.time() + 300, abs=5)
    assert job.state is JobState.SCHEDULED


@pytest.mark.parametrize("nothing", [0, 0.0, timedelta(0), None])
def test_without_a_wait_the_job_is_queued(nothing):
    assert WriteNote.defer("now", wait=nothing).state is JobState.QUEUED


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"wait": -1}, "wait=-1 is impossible"),
        ({"wait": timedelta(seconds=-1)}, "is impossible"),
        ({"wait": math.inf}, "wait=inf"),
        ({"wait": math.nan}, "wait=nan"),
        ({"wait": True}, "wait=True"),
        ({"wait": "5"}, "wait='5'"),
        ({"wait": 1, "wait_until": NOW}, "exclude each other"),
        ({"wait_until": datetime(2026, 1, 1)}, "is naive"),
        ({"wait_until": 5}, "is not a datetime"),
    ],
)
def test_an_invalid_time_is_a_value_error_and_writes_nothing(options, reason, valkey):
    with pytest.raises(ValueError, match=reason):
        WriteNote.defer("x", **options)
    with pytest.raises(ValueError, match=reason):
        WriteNote.defer_many([("x",)], **options)
    assert get_connection("default").dbsize() == 0


def test_a_job_may_go_to_another_queue():
    WriteNote.defer("x", queue="low")
    WriteNote.using(queue="mailers", wait=0).defer("x")

    assert queues.lengths() == {"critical": 0, "default": 0, "mailers": 1, "background": 0, "low": 1}


def test_without_a_queue_default_a_command_goes_to_the_first_one(settings):
    settings.JOBS = {**settings.JOBS, "QUEUES": {"critical": "", "low": ""}}
    jobs = [WriteNote.defer("x"), *WriteNote.defer_many([("x",)]), WriteNote.using(wait=60).defer("x")]
    assert {job.origin for job in jobs} == {"critical"}
    assert scheduler.add(scheduler.Entry("daily", "sample.WriteNote", args=("x",), every=60)).queue == "critical"
    assert not [message for message in checks.check_queues(None) if "the queue 'default'" in message.msg]
    with pytest.raises(UnknownQueueError, match="'default'"):
        WriteNote.defer("x", queue="default")


def test_an_unknown_queue_is_refused_with_the_list_of_queues():
    with pytest.raises(UnknownQueueError, match=r"'urgent'. The queues are: critical, default, mailers, background"):
        WriteNote.defer("x", queue="urgent")
    with pytest.raises(UnknownQueueError):
        get_queue("urgent")


@pytest.mark.parametrize(
    ("args", "fields", "reason"),
    [
        ((), {}, "missing a required argument: 'text'"),
        (("a", "b"), {}, "too many positional arguments"),
        ((), {"txt": "a"}, "'text'|'txt'"),
    ],
)
def test_wrong_arguments_are_a_type_error_at_the_caller(args, fields, reason):
    with pytest.raises(TypeError, match=rf"sample.WriteNote cannot be deferred: .*({reason})"):
        WriteNote.defer(*args, **fields)


def test_an_error_of_the_constructor_itself_is_passed_on(own_commands):
    class Picky(Mandate):
        number: int

        def __post_init__(self):
            raise TypeError("I want seven")

        def call(self):
            pass

    Picky.__module__ = WriteNote.__module__
    with pytest.raises(TypeError, match=r"^I want seven$"):
        Picky.defer(1)


@pytest.mark.parametrize(
    ("value", "reason"), [(Note(), "unsaved sample.Note"), (math.nan, "nan"), (object(), "builtins.object")]
)
def test_an_argument_that_cannot_be_sent_is_named(value, reason):
    with pytest.raises(SerializationError, match=rf"sample.ShoutNote .* argument 'times', .*{reason}"):
        ShoutNote.defer("note", value)
    with pytest.raises(SerializationError, match=rf"argument 'note', .*{reason}"):
        ShoutNote.defer(note=[{"deep": value}])
    assert get_connection("critical").dbsize() == 0


def test_many_jobs_are_written_in_order_in_few_round_trips(valkey):
    WriteNote.defer_many([("loads the script",)] * 301)  # two slices, which run ahead
    valkey.clean()
    valkey.client().config_resetstat()
    jobs = WriteNote.defer_many([*((str(n),) for n in range(2_500)), {"text": "named"}])
    stats = valkey.client().info("commandstats")

    assert get_queue("default").job_ids == [job.id for job in jobs]
    assert jobs[7].command_args == ["7"]
    assert MandateJob.fetch(jobs[7].id, connection=jobs[7].connection).command_args == ["7"]
    assert MandateJob.fetch(jobs[-1].id, connection=jobs[7].connection).command_kwargs == {"text": "named"}
    assert stats["cmdstat_evalsha"]["calls"] == 9


def test_one_bad_row_refuses_them_all_and_is_named():
    with pytest.raises(TypeError) as caught:
        WriteNote.defer_many([("a",), (), ("c",)])
    assert "row 1 " in caught.value.__notes__[0]
    with pytest.raises(SerializationError) as refused:
        WriteNote.defer_many([("a",), (object(),)])
    assert "row 1 " in refused.value.__notes__[0]
    assert get_connection("default").dbsize() == 0


def test_a_push_that_is_sent_twice_writes_once():
    new = queues.NewJob(id="twice", queue="default", payload=b"[]")
    for _ in range(2):
        queues.push([new])

    assert get_queue("default").job_ids == ["twice"]


FORMS = {
    "defer": lambda: WriteNote.defer("x"),
    "wait": lambda: WriteNote.defer("x", wait=60),
    "wait_until": lambda: WriteNote.defer("x", wait_until=timezone.now() + timedelta(hours=1)),
    "queue": lambda: WriteNote.defer("x", queue="low"),
    "defer_many": lambda: WriteNote.defer_many([("x",), ("y",)])[0],
    "using": lambda: WriteNote.using(queue="low").defer("x"),
    "adefer": lambda: async_to_sync(WriteNote.adefer)("x"),
}
every_form = pytest.mark.parametrize("defer", FORMS.values(), ids=FORMS)


@every_form
@pytest.mark.django_db(transaction=True)
def test_every_form_waits_for_the_commit_and_has_its_id_before(defer):
    with transaction.atomic():
        job = defer()
        assert job.id
        assert job.state is None
    assert job.state in {JobState.QUEUED, JobState.SCHEDULED}


@every_form
@pytest.mark.django_db(transaction=True)
def test_every_form_leaves_nothing_after_a_rollback(defer):
    with pytest.raises(RuntimeError), transaction.atomic():
        defer()
        raise RuntimeError
    with transaction.atomic(), pytest.raises(RuntimeError), transaction.atomic():
        defer()
        raise RuntimeError
    assert get_connection("default").dbsize() == 0


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.parametrize("inner_commits", [True, False])
def test_transactions_on_several_databases_must_all_commit(inner_commits):
    with transaction.atomic():
        with transaction.atomic(using="other"):
            job = WriteNote.defer("x")
            if not inner_commits:
                transaction.set_rollback(True, using="other")
        assert job.state is None
    assert job.state is (JobState.QUEUED if inner_commits else None)


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_transaction_on_another_database_is_waited_for():
    with transaction.atomic(using="other"):
        job = WriteNote.defer("x")
        assert job.state is None
    assert job.state is JobState.QUEUED


def test_redis_out_of_reach_is_a_clear_error_soon_and_without_the_password(tmp_path):
    for url, shown in [
        ("redis://user:hunter2@127.0.0.1:1/3", "127.0.0.1:1/3"),
        (f"unix://{tmp_path}/none.sock", f"{tmp_path}/none.sock"),
    ]:
        with override_settings(RQ_QUEUES=rq_queues(url)):
            for options in ({}, {"prereq_jobs": ["some-job"]}):
                started = time.monotonic()
                with pytest.raises(RedisUnavailableError, match=shown) as caught:
                    Fail.defer(**options)
                assert "hunter2" not in str(caught.value)
                assert time.monotonic() - started < 10


def test_a_server_that_accepts_but_never_answers_is_given_up_in_time(tmp_path, impatient):
    import socket

    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        deaf.listen()
        with override_settings(RQ_QUEUES=rq_queues(f"unix://{tmp_path}/deaf")):
            assert CLIENT_OPTIONS == {"socket_timeout": 1, "socket_connect_timeout": 1}
            started = time.monotonic()
            with pytest.raises(RedisUnavailableError):
                Fail.defer()
            assert time.monotonic() - started < 10


def test_queues_of_one_server_share_one_pool():
    assert get_connection("critical") is get_connection("low")
