"""One attempt, by a real worker process: what runs, what is refused; the next job runs in any case."""

import time

import django_rq
import orjson
import pytest
from rq.job import Job

from jobs import MandateJob, queues, runtime
from jobs.broker.connections import get_connection
from jobs.job import JobState
from jobs.queues import NewJob
from tests.jobs.worker import eventually
from tests.sample import functions
from tests.sample.commands.notes import Fail, KeepSecret, ShoutNote, WriteNote, WriteNoteSlowly
from tests.sample.commands.talk import Echo, EchoType, NameJob, Talk, TalkKept
from tests.sample.models import Note

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

QUEUES = ("critical", "default", "mailers", "background", "low")


def drain(worker_process):
    worker = worker_process(*QUEUES, burst=True)
    assert worker.wait() == 0, worker.output
    return worker


def why_dead(job):
    return Job.fetch(job.id, connection=job.connection).latest_result().exc_string


def test_commands_run_with_their_records_fetched_fresh(worker_process):
    note = Note.objects.create(text="old")
    shout = ShoutNote.defer(note, times=2)
    slow = WriteNoteSlowly.defer("async")
    Note.objects.filter(pk=note.pk).update(text="new")

    drain(worker_process)

    assert Note.objects.get(pk=note.pk).text == "NEW!!"
    assert Note.objects.filter(text="async").exists()
    assert shout.state is JobState.FINISHED
    assert shout.return_value() == "NEW!!"
    assert slow.state is None  # result_ttl = 0


def test_a_failing_command_is_dead_with_its_error(worker_process):
    failing, after = Fail.defer("bad luck"), WriteNote.defer("after")

    drain(worker_process)

    assert failing.state is JobState.DEAD
    assert "RuntimeError: bad luck" in why_dead(failing)
    assert after.state is JobState.FINISHED


def test_a_deleted_record_does_not_stop_the_worker(worker_process):
    note = Note.objects.create(text="x")
    reference = f"sample.Note:{note.pk}"
    orphan, after = ShoutNote.defer(note), WriteNote.defer("after")
    note.delete()

    worker = worker_process(*QUEUES)
    eventually(lambda: orphan.state is JobState.DISCARDED)  # five seconds later: a replica may lag
    worker.stop()

    assert orphan.state is JobState.DISCARDED
    assert reference in orphan.reason
    assert after.state is JobState.FINISHED


PAYLOADS = {
    "no command at all": (["jobs.execution.perform", None, [], {}], "names no command"),
    "a command that is no text": (["jobs.execution.perform", None, [{"$a": 1}], {}], "names no command"),
    "a reference that is no text": (
        ["jobs.execution.perform", None, ["sample.WriteNote", {"$record": 7}], {}],
        "Unreadable reference",
    ),
    "a function of the system": (["os.system", None, ["touch {marker}"], {}], "Jobs may not call 'os.system'"),
    "a method of a text": (["format", "{marker}", [], {}], "Jobs may not call"),
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_what_cannot_be_run_is_dead_with_the_reason_and_the_next_job_runs(payload, worker_process, tmp_path):
    data, reason = payload
    marker = tmp_path / "touched"
    queues.push([NewJob(id="bad", queue="default", payload=orjson.dumps(data).replace(b"{marker}", bytes(marker)))])
    after = WriteNote.defer("after")

    drain(worker_process)

    bad = MandateJob.fetch("bad", connection=get_connection("default"))
    assert bad.state is JobState.DEAD
    assert reason in why_dead(bad)
    assert after.state is JobState.FINISHED
    assert not marker.exists()


NEWER = {
    "an argument too many": (["sample.WriteNote", "x", "y"], {}, "do not fit"),
    "a new field": (["sample.WriteNote", "x"], {"colour": "red"}, "do not fit"),
    "a field that is optional by now": (["sample.WriteNote"], {}, "do not fit"),
    "a kind of argument": (["sample.WriteNote", {"$newer": 1}], {}, "Unknown kind of argument"),
    "a model": (["sample.WriteNote", {"$record": "sample.Newer:1"}], {}, "Unknown model 'sample.Newer'"),
    "a database": (["sample.WriteNote", {"$record": "sample.Note:1", "using": "newer"}], {}, "No database 'newer'"),
    "a member": (["sample.WriteNote", {"$enum": ["tests.sample.models:Note.Mood", "NEW"]}], {}, "no member 'NEW'"),
    "a task": (["jobs.RunTask", "tests.sample.tasks.newer", [], {}], {}, "no task 'tests.sample.tasks.newer'"),
    "a task's module": (["jobs.RunTask", "tests.sample.newer.task", [], {}], {}, "no task 'tests.sample.newer.task'"),
    "a task's app": (["jobs.RunTask", "newer.tasks.task", [], {}], {}, "no task 'newer.tasks.task'"),
}


@pytest.mark.parametrize(("args", "kwargs", "reason"), NEWER.values(), ids=NEWER)
def test_a_name_of_a_newer_release_waits_a_day_for_it(args, kwargs, reason, worker, monkeypatch):
    data = orjson.dumps(["jobs.execution.perform", None, args, kwargs])
    (job,) = queues.push([NewJob(id="newer", queue="default", payload=data)])
    begun = time.time()
    for hours in (0, 1, 23.9):
        monkeypatch.setattr(runtime, "now", lambda hours=hours: begun + hours * 3_600)
        worker.hurry().run()
        assert (job.state, job.reason) == (JobState.RETRYING, "newer payload")
    assert reason in why_dead(job)
    monkeypatch.setattr(runtime, "now", lambda: begun + 86_401)
    worker.hurry().run()
    assert job.state is JobState.DEAD
    assert reason in job.reason


@pytest.mark.parametrize(
    "context",
    [{"zone": "Nowhere/Land"}, {"values": {"mood": {"$enum": ["tests.sample.models:Note.Mood", "NEW"]}}}],
    ids=["zone", "value"],
)
def test_so_does_one_whose_context_has_such_a_name(context, worker):
    job = WriteNote.defer("x")
    job.connection.hset(job.key, mapping={"context": orjson.dumps(context), "more": 1})
    worker.run()
    assert (job.state, job.reason) == (JobState.RETRYING, "newer payload")


@pytest.mark.parametrize("garbage", [b"\x80\x04N.", b"{", b"\xff\xfe", b"[]", b"7", b'["a"]'])
def test_a_payload_that_is_no_job_is_dead_and_the_next_job_runs(garbage, worker_process):
    queues.push([NewJob(id="bad", queue="default", payload=garbage)])
    after = WriteNote.defer("after")

    drain(worker_process)

    bad = MandateJob.fetch("bad", connection=get_connection("default"))
    assert bad.state is JobState.DEAD
    assert "ayload" in bad.reason
    assert after.state is JobState.FINISHED


def test_plain_rq_jobs_of_an_installed_app_run_too(worker_process):
    job = django_rq.get_queue("background").enqueue(functions.add, 2, 3)

    drain(worker_process)

    assert job.return_value() == 5


def test_a_delayed_job_is_not_run_before_its_time(worker_process):
    later = WriteNote.defer("later", wait=3_600)

    drain(worker_process)

    assert later.state is JobState.SCHEDULED
    assert not Note.objects.exists()


def test_the_log_of_a_failing_command_is_kept_and_others_only_with_keep_log(worker_process):
    failing, quiet, asked = Talk.defer(300, fail=True), Talk.defer(1), TalkKept.defer(2)

    drain(worker_process)

    lines = failing.call_log.splitlines()
    assert len(lines) == 200
    assert lines[-1].endswith("WARNING talk: line 299")
    assert quiet.call_log == ""
    assert len(asked.call_log.splitlines()) == 2


def test_a_result_with_records_is_returned_unchanged(worker_process):
    note = Note.objects.create(text="x")
    job, odd = Echo.defer({"note": note, "pair": (1, 2)}), EchoType.defer()

    drain(worker_process)

    assert job.return_value() == {"note": note, "pair": (1, 2)}
    assert odd.state is JobState.FINISHED
    assert odd.return_value() == "<object>"


def test_a_command_has_its_job(worker_process):
    job = NameJob.defer("x" * 2_000)

    drain(worker_process)

    assert job.return_value() == [job.id, "default", "x" * 2_000]


def test_private_arguments_are_in_no_log(worker_process):
    KeepSecret.defer("hunter2")

    assert "hunter2" not in drain(worker_process).output
