"""Async commands on the event loop of a worker's process."""

import json
import re

import django_rq
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from jobs import Batch, Workflow, control
from jobs.attempts import profiles
from jobs.broker.connections import get_connection
from jobs.inspection import workers
from tests.jobs.worker import eventually
from tests.sample import functions
from tests.sample.commands.busy import ComputeAsync
from tests.sample.commands.notes import WriteNote
from tests.sample.commands.on_loop import (
    AcrossCalls,
    Await,
    AwaitFile,
    AwaitLate,
    AwaitMember,
    AwaitNumber,
    Block,
    CancelThread,
    EndLoop,
    EndProcess,
    FailAsync,
    LeaveTask,
    NameLoop,
    QueryLate,
    RequeueAsync,
    RunLoop,
    SpinInThread,
    Swallow,
    SwallowAll,
    TalkAsync,
    WriteAsync,
)
from tests.sample.models import Note

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

TIMED_OUT = "TimedOut: The attempt took longer than its 1 seconds."


@pytest.fixture
def loop_process(worker_process):
    """`loop_process(concurrency=2)`: a worker with an event loop."""

    def start(*queues, concurrency=2, async_concurrency=20, **options):
        queues = queues or ("default",)
        return worker_process(*queues, concurrency=concurrency, async_concurrency=async_concurrency, **options)

    return start


def result(job):
    return job.latest_result().return_value


def test_async_commands_run_on_the_loop_and_others_in_threads(loop_process):
    jobs = [Await.defer() for _ in range(5)]
    other = WriteNote.defer("x")
    worker = loop_process(burst=True)

    assert worker.wait() == 0, worker.output
    assert {result(job) for job in jobs} == {"jobs-loop"}
    assert other.state == "finished"


@pytest.mark.parametrize("package", ["asyncio", "uvloop"])
def test_it_is_uvloops_where_that_is_installed(package, loop_process, tmp_path):
    if package == "uvloop":
        pytest.importorskip("uvloop")
    kind = NameLoop.defer()
    good = [EndLoop.defer("stop"), WriteAsync.defer("x"), RequeueAsync.defer()]
    bad = [EndLoop.defer("task"), QueryLate.defer(), Swallow.defer(), RunLoop.defer(), AcrossCalls.defer("transaction")]
    cancelled = AwaitFile.defer(str(tmp_path / "begun"), str(tmp_path / "never"))
    settings = "tests.without_uvloop" if package == "asyncio" else "tests.settings"
    worker = loop_process(burst=True, env={"DJANGO_SETTINGS_MODULE": settings})
    eventually((tmp_path / "begun").exists)
    control.cancel(cancelled)

    assert worker.wait() == 0, worker.output
    assert result(kind) == package
    assert {job.state for job in good} == {"finished"}
    assert {job.state for job in bad} == {"dead"}
    assert cancelled.state == "cancelled"


def test_more_tasks_run_at_once_than_there_are_threads(loop_process, tmp_path):
    marks = [tmp_path / f"begun-{number}" for number in range(20)]
    jobs = [AwaitFile.defer(str(mark), str(tmp_path / "release")) for mark in marks]
    worker = loop_process(concurrency=1)

    eventually(lambda: all(mark.exists() for mark in marks))
    (tmp_path / "release").touch()
    eventually(lambda: all(job.state == "finished" for job in jobs))
    assert worker.stop() == 0


def test_the_orm_runs_in_lent_threads(loop_process):
    jobs = [WriteAsync.defer(f"note {number}") for number in range(30)]
    assert loop_process(burst=True).wait() == 0

    assert {job.state for job in jobs} == {"finished"}
    assert Note.objects.count() == 30


@pytest.mark.parametrize("command", [AwaitLate, Swallow, QueryLate, SpinInThread])
def test_a_task_ends_at_its_timeout_and_costs_no_process(command, loop_process):
    job = command.defer()
    worker = loop_process()
    eventually(lambda: job.state == "dead")
    after = Await.defer()
    eventually(lambda: after.state == "finished")

    assert job.reason == TIMED_OUT
    assert "takes no more jobs" not in worker.output
    assert Note.objects.filter(text="cleaned up").count() == (command is AwaitLate)


def test_a_task_that_does_not_come_back_costs_its_process_but_no_other_job(loop_process):
    job = SwallowAll.defer()
    env = {"DJANGO_SETTINGS_MODULE": "tests.faulty", "INTERRUPT_GRACE": "1", "GRACE": "5"}
    worker = loop_process(env=env)
    eventually(lambda: job.state == "dead")
    after = Await.defer()
    eventually(lambda: after.state == "finished")

    assert job.reason == TIMED_OUT
    assert "takes no more jobs" in worker.output


def test_a_cancelled_task_ends(loop_process, tmp_path):
    job = AwaitFile.defer(str(tmp_path / "begun"), str(tmp_path / "never"))
    loop_process(async_concurrency=1)
    eventually((tmp_path / "begun").exists)
    control.cancel(job)
    after = Await.defer()

    eventually(lambda: after.state == "finished")
    assert job.state == "cancelled"


def test_a_stop_gives_tasks_back(loop_process, tmp_path):
    job = AwaitFile.defer(str(tmp_path / "begun"), str(tmp_path / "never"))
    worker = loop_process(env={"DJANGO_SETTINGS_MODULE": "tests.faulty", "GRACE": "1"})
    eventually((tmp_path / "begun").exists)

    assert worker.stop() == 0
    assert job.state == "queued"
    assert job.history[-1].name == "interrupted"


def test_a_cancelled_call_holds_its_job_until_its_thread_returns(loop_process):
    job = CancelThread.defer()
    assert loop_process(burst=True).wait() == 0

    assert result(job) == "cancelled"
    assert Note.objects.filter(text="the thread has returned").exists()


def test_tasks_that_a_command_leaves_are_cancelled(loop_process):
    job = LeaveTask.defer()
    assert loop_process(burst=True).wait() == 0

    assert job.state == "finished"
    assert Note.objects.filter(text="left").exists()


def test_a_loop_inside_the_loop_is_refused(loop_process):
    job = RunLoop.defer()
    loop_process(burst=True).wait()

    assert job.state == "dead"
    assert "cannot be called from a running event loop" in job.reason


@pytest.mark.parametrize("how", ["stop", "exit", "task"])
def test_a_command_cannot_end_the_loop(how, loop_process):
    job, after = EndLoop.defer(how), Await.defer(0.1)
    worker = loop_process(burst=True)

    assert worker.wait() == 0, worker.output
    assert job.state == ("finished" if how == "stop" else "dead")
    assert after.state == "finished"


@pytest.mark.parametrize("how", ["transaction", "cursor", "iterator"])
def test_a_connection_is_lent_for_one_call(how, loop_process):
    job = AcrossCalls.defer(how)
    loop_process(burst=True, concurrency=1).wait()

    if job.state == "finished":  # where a driver's cursor outlives its connection's return, it answers right
        assert (how, connection.vendor) in {("cursor", "postgresql"), ("iterator", "sqlite"), ("iterator", "mysql")}
        assert result(job) == (500 if how == "iterator" else 0)
    else:
        assert job.reason.startswith("ConnectionAcrossCallsError")
        assert "one sync function" in job.reason


def test_a_requeue_a_failure_and_async_hooks(loop_process):
    requeued, failed = RequeueAsync.defer(), FailAsync.defer()
    assert loop_process(burst=True).wait() == 0

    assert result(requeued) == "attempt 2"
    assert failed.state == "dead"
    assert Note.objects.get().text == "on_dead: no luck in jobs-loop"


def test_plain_async_functions_wait_in_a_thread_for_the_loop(loop_process):
    job = django_rq.get_queue("default").enqueue(functions.name_thread)
    late = django_rq.get_queue("default").enqueue(functions.wait_async, 1_000, job_timeout=1)
    worker = loop_process()
    eventually(lambda: late.get_status(refresh=True).value == "failed")

    assert job.return_value(refresh=True) == "jobs-loop"
    assert "takes no more jobs" not in worker.output


def test_jobs_whose_record_says_too_little_are_handed_on(loop_process):
    jobs = [Await.defer() for _ in range(10)]
    for job in jobs:
        get_connection("default").hdel(job.key, "more")
    assert loop_process(burst=True).wait() == 0

    assert {result(job) for job in jobs} == {"jobs-loop"}
    assert {get_connection("default").hget(job.key, "more") for job in jobs} == {b"a"}
    assert {tuple(event.name for event in job.history) for job in jobs} == {("queued", "started", "finished")}


def test_jobs_whose_record_says_too_much_go_to_threads(loop_process):
    job = WriteNote.defer("x")
    get_connection("default").hset(job.key, "more", "a")
    assert loop_process(burst=True).wait() == 0

    assert job.state == "finished"


def test_a_worker_without_a_loop_runs_async_commands_in_threads(worker_process):
    job = WriteAsync.defer("x")
    assert worker_process("default", burst=True).wait() == 0

    assert job.state == "finished"


def test_spans_log_lines_and_profiles_are_those_of_the_job(loop_process, tmp_path):
    jobs = {name: TalkAsync.defer(name) for name in ("ada", "bea", "cora")}
    profiled = ComputeAsync.defer(0.05, profile=True)
    env = {
        "DJANGO_SETTINGS_MODULE": "tests.observed",
        "TRACES": str(tmp_path / "traces"),
        "REPORTS": str(tmp_path / "r"),
    }
    worker = loop_process(burst=True, env=env)
    assert worker.wait() == 0, worker.output

    client = get_connection("default")
    for name, job in jobs.items():
        said = re.findall(r"I am .*", client.hget(job.key, "log").decode())
        assert said == [f"I am {name}"] * 3 + [f"I am {name} in a thread"]
    spans = [json.loads(line)["attributes"] for line in (tmp_path / "traces").read_text().splitlines()]
    assert {(span["messaging.message.id"], span["jobs.outcome"]) for span in spans} == {
        (job.id, "finished") for job in (*jobs.values(), profiled)
    }
    (profile,) = profiles.of(client, profiled.id)
    assert (profile.ended, "compute" in profile.summary) == ("finished", True)


@pytest.mark.parametrize("number", ["-1", "100001"])
def test_an_impossible_number_of_tasks_is_refused(number):
    with pytest.raises(CommandError, match=f"--async-concurrency {number} is impossible: it must be 0"):
        call_command("rqworker", "default", "--async-concurrency", number)


def test_members_of_batches_and_steps_of_flows(loop_process):
    with Workflow("f") as flow:
        first = flow.add(AwaitNumber, 4)
        second = flow.add(AwaitNumber, first.result)
        bad = flow.add(FailAsync)
        never = flow.add(AwaitNumber, 1, after=[bad], on_failure="cancel")
    with Batch(name="b") as batch:
        members = [AwaitMember.defer() for _ in range(3)]
    assert loop_process(burst=True).wait() == 0

    assert (result(first.job), result(second.job)) == (5, 6)
    assert never.job.state == "discarded"
    assert {result(job) for job in members} == {"b"}
    assert batch.has_succeeded


# --- a loop that is blocked ---------------------------------------------------------------------


def test_what_blocks_the_loop_is_named_while_the_worker_beats(loop_process):
    block = Block.defer(6)
    worker = loop_process(env={"DJANGO_SETTINGS_MODULE": "tests.faulty", "EVERY": "0.2"})
    eventually(lambda: "the event loop has been blocked for" in worker.output)
    (name,) = worker.names
    seen = get_connection("default").hget(f"rq:worker:{name}", "last_heartbeat")
    eventually(lambda: get_connection("default").hget(f"rq:worker:{name}", "last_heartbeat") != seen)

    assert block.state == "running"
    assert f"by sample.Block (job {block.id}" in worker.output
    assert "time.sleep(self.seconds)" in worker.output
    eventually(lambda: workers.get(name)[0].loop_lag > 0.25)
    eventually(lambda: block.state == "finished")
    assert "takes no more jobs" not in worker.output


def test_a_loop_that_stands_still_costs_its_process_and_loses_nothing(loop_process, tmp_path):
    others = [AwaitFile.defer(str(tmp_path / f"begun-{n}"), str(tmp_path / "release")) for n in range(3)]
    env = {"DJANGO_SETTINGS_MODULE": "tests.faulty", "STANDS_STILL": "1", "GRACE": "1", "EVERY": "1"}
    worker = loop_process(env=env)
    eventually(lambda: all((tmp_path / f"begun-{n}").exists() for n in range(3)))
    block = Block.defer(60)
    eventually(lambda: block.state == "dead")
    (tmp_path / "release").touch()
    eventually(lambda: all(job.state == "finished" for job in others))

    assert block.reason.startswith("LoopBlockedError: It has blocked the event loop")
    assert "the event loop has been standing still" in worker.output


def test_a_loop_that_dies_costs_its_process_and_is_not_tried_for_ever(loop_process):
    job, other = EndLoop.defer("break"), WriteNote.defer("x")
    env = {"DJANGO_SETTINGS_MODULE": "tests.faulty", "GRACE": "0", "EVERY": "1", "RESTART_DELAY": "0"}
    worker = loop_process(env=env)
    eventually(lambda: job.state == "dead")

    assert job.reason == "poison"
    eventually(lambda: other.state == "finished")
    assert "the event loop has ended" in worker.output


# --- a process that dies ------------------------------------------------------------------------


def test_of_the_jobs_of_a_process_that_dies_those_at_work_are_suspect(loop_process, tmp_path):
    release = tmp_path / "release"
    others = [AwaitFile.defer(str(tmp_path / "begun"), str(release)) for _ in range(10)]
    worker = loop_process(env={"DJANGO_SETTINGS_MODULE": "tests.faulty", "POISON": "1", "RESTART_DELAY": "0"})
    for how in ("step", "task", "thread"):
        eventually(lambda: {other.state for other in others} == {"running"})
        job = EndProcess.defer(how)
        eventually(lambda job=job: job.state == "dead")
        assert job.reason == "poison"

    release.touch()
    eventually(lambda: all(job.state == "finished" for job in others))
    assert worker.stop() == 0


def test_if_no_job_was_at_work_all_are_suspect(loop_process, tmp_path):
    other = AwaitFile.defer(str(tmp_path / "begun"), str(tmp_path / "never"))
    loop_process(env={"DJANGO_SETTINGS_MODULE": "tests.faulty", "POISON": "1", "RESTART_DELAY": "0"})
    eventually((tmp_path / "begun").exists)
    job = EndProcess.defer("callback")

    eventually(lambda: [job.reason, other.reason] == ["poison", "poison"])
