"""
Django's own Tasks API on our queues: enqueued on commit, run by our workers, with every job's retries and page.

The tests of django-tasks for its own backends (release 0.12.0, tests/tests: test_tasks, test_dummy_backend,
test_immediate_backend) define what any backend does. These tests show the part that its base classes do not provide:

- a task, async or not, is enqueued by `enqueue` and by `aenqueue`, with its arguments normalized; its result is READY,
  has run no attempt, and equals what `get_result` and `aget_result` return for its id
- an unknown result is TaskResultDoesNotExist; one of another task is TaskResultMismatch
- `refresh` and `arefresh` bring a result up to date
- a run sets started_at, last_attempted_at, finished_at, in that order, and attempts
- what a task raises, SystemExit too, makes it FAILED with the class and the traceback; `return_value` raises then
- an argument or a result of another type than JSON has is a TypeError
- a queue that the backend does not have, and a naive `run_after`, are InvalidTask; an empty QUEUES allows each
- `takes_context` passes the result and the number of the attempt to the task
- each step is in the log of django-tasks
"""

import asyncio
import time
from datetime import datetime, timedelta

import django
import django_rq
import pytest
from django.db import OperationalError, transaction
from django.urls import reverse
from django.utils import timezone

from jobs import MandateJob, control
from jobs.backends import RQBackend, RunTask, task_of
from jobs.broker.connections import get_connection
from jobs.errors import ForbiddenFunctionError, PayloadError, UnknownQueueError
from jobs.inspection import find
from jobs.tasks import (
    InvalidTask,
    TaskResultDoesNotExist,
    TaskResultMismatch,
    TaskResultStatus,
    task,
    task_backends,
    task_enqueued,
    task_finished,
    task_started,
)
from jobs.testing import Kit
from tests.sample import functions, tasks
from tests.sample.commands.notes import WriteNote
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True)


def job_of(result):
    return MandateJob(result.id, connection=get_connection("default"))


def test_a_task_runs_and_its_result_is_read_by_its_id(worker):
    result = tasks.add.enqueue(2, right=3)
    assert (result.status, result.is_finished) == (TaskResultStatus.READY, False)
    with pytest.raises(ValueError, match="not finished"):
        _ = result.return_value
    worker.run()

    result.refresh()
    assert (result.status, result.return_value) == (TaskResultStatus.SUCCESSFUL, 5)
    found = tasks.add.get_result(result.id)
    assert found.enqueued_at <= found.started_at <= found.finished_at
    assert (found.args, found.kwargs, found.worker_ids, found.errors) == ([2], {"right": 3}, ["inline"], [])


def test_it_waits_for_the_commit_and_a_rollback_drops_it():
    with transaction.atomic():
        result = tasks.add.enqueue(1)
        with pytest.raises(TaskResultDoesNotExist):
            tasks.add.get_result(result.id)
    assert tasks.add.get_result(result.id).status == TaskResultStatus.READY
    with pytest.raises(RuntimeError), transaction.atomic():
        dropped = tasks.add.enqueue(1)
        raise RuntimeError
    with pytest.raises(TaskResultDoesNotExist):
        tasks.add.get_result(dropped.id)


def test_queue_priority_and_run_after(worker):
    client = get_connection("low")
    first, second = tasks.write.enqueue("first"), tasks.write.using(priority=-5).enqueue("second")
    urgent = tasks.write.using(priority=10).enqueue("urgent")
    assert [i.decode() for i in client.lrange("rq:queue:low", 0, -1)] == [urgent.id, first.id, second.id]
    later = tasks.write.using(run_after=timezone.now() + timedelta(hours=1), queue_name="background").enqueue("later")
    assert job_of(later).state == "scheduled"
    worker.run()
    assert list(Note.objects.order_by("pk").values_list("text", flat=True)) == ["urgent", "first", "second"]
    worker.hurry().run()
    assert Note.objects.last().text == "later"


def test_the_context_and_async_tasks(worker):
    context, added = tasks.tell_attempt.enqueue(), tasks.add_async.enqueue(2, 3)
    worker.run()
    for result in (context, added):
        result.refresh()
    assert context.return_value == [context.id, 1]
    assert added.return_value == 5


def test_it_is_retried_as_every_job_and_failed_when_it_is_dead(worker):
    result = tasks.fail.enqueue("bad luck")
    worker.run()
    result.refresh()
    assert job_of(result).state == "retrying"
    assert result.status == TaskResultStatus.READY
    assert [error.exception_class for error in result.errors] == [ValueError]
    get_connection("default").hset(job_of(result).key, mapping={"progress": b'{"failures": {"": 25}}', "more": 1})
    worker.hurry().run()
    result.refresh()
    assert result.status == TaskResultStatus.FAILED
    assert len(result.errors) == 2
    assert "bad luck" in result.errors[0].traceback


@pytest.mark.parametrize("what", ["generator", "coroutine"])
def test_a_result_that_has_not_run_is_a_failure_that_says_so(what, worker):
    result = tasks.return_unrun.enqueue(what)
    worker.run()
    result.refresh()
    assert job_of(result).state == "retrying"
    assert f"return_unrun returned a {what}" in result.errors[0].traceback
    assert "so its body has not run" in result.errors[0].traceback


def yielding():
    yield 1


async def yielding_async():
    yield 1


@pytest.mark.parametrize("function", [yielding, yielding_async])
def test_a_task_with_yield_is_refused_when_it_is_defined(function):
    with pytest.raises(InvalidTask, match=rf"{function.__name__} is an? .*generator function: .* without `yield`"):
        task(function)


@pytest.mark.parametrize("end", [control.cancel, control.delete])
def test_a_cancelled_one_has_failed_and_a_deleted_one_is_gone(end):
    result = tasks.add.enqueue(1)
    end(job_of(result))
    if end is control.cancel:
        assert tasks.add.get_result(result.id).status == TaskResultStatus.FAILED
    else:
        with pytest.raises(TaskResultDoesNotExist):
            tasks.add.get_result(result.id)


@pytest.fixture
def heard():
    """The signals that were sent: names and results, in order."""
    heard, receivers = [], []
    for name, signal in (("enqueued", task_enqueued), ("started", task_started), ("finished", task_finished)):

        def receive(sender, task_result, name=name, **kwargs):
            heard.append((name, task_result))

        signal.connect(receive, sender=RQBackend, weak=False)
        receivers.append((signal, receive))
    yield heard
    for signal, receive in receivers:
        signal.disconnect(receive, sender=RQBackend)


def test_signals(worker, heard):
    tasks.add.enqueue(1)
    worker.run()
    assert [(name, result.status) for name, result in heard] == [
        ("enqueued", TaskResultStatus.READY),
        ("started", TaskResultStatus.RUNNING),
        ("finished", TaskResultStatus.SUCCESSFUL),
    ]
    assert heard[-1][1].return_value == 2


@pytest.mark.parametrize("bad", [{"args": [object()]}, {"args": [{1, 2}]}])
def test_arguments_that_are_not_json_are_refused(bad):
    with pytest.raises(TypeError):
        tasks.add.enqueue(*bad["args"])


def test_aenqueue():
    async def enqueue():
        result = await tasks.add.aenqueue(1)
        return await tasks.add.aget_result(result.id)

    assert asyncio.run(enqueue()).status == TaskResultStatus.READY


@pytest.mark.parametrize(
    "path", ["os.system", "tests.sample.tasks.no_task", "tests.sample.tasks.nothing", "add", "tests.sample.models.Note"]
)
def test_a_payload_can_name_only_tasks_of_installed_apps(path):
    with pytest.raises(PayloadError):
        task_of(path, "default")


@pytest.mark.parametrize("path", [b"tests.sample.tasks.gone", b"tests.sample.gone.add", b"gone.tasks.add"])
def test_a_result_of_a_task_that_is_gone_is_not_found(path):
    result = tasks.add.enqueue(1)
    client, key = get_connection("default"), job_of(result).key
    client.hset(key, "data", client.hget(key, "data").replace(b"tests.sample.tasks.add", path))
    with pytest.raises(TaskResultDoesNotExist):
        task_backends["default"].get_result(result.id)


def test_a_result_of_something_else_is_not_found(worker):
    with pytest.raises(TaskResultDoesNotExist):
        task_backends["default"].get_result(WriteNote.defer("x").id)


def test_an_unknown_queue_is_a_check_error():
    backend = RQBackend("odd", {"QUEUES": ["urgent"], "OPTIONS": {}})
    assert [message.id for message in backend.check()] == ["jobs.E009"]
    assert task_backends["default"].check() == []


def test_without_a_queue_default_a_task_goes_to_the_first_one(settings):
    settings.JOBS = {**settings.JOBS, "QUEUES": {"critical": "", "low": ""}}
    backend = RQBackend("default", {"OPTIONS": {}})
    backend.validate_task(tasks.add)
    assert backend.check() == []
    assert find(backend.enqueue(tasks.add, [1], {}).id).origin == "critical"


def test_it_is_on_the_dashboard(worker, admin_client):
    result = tasks.fail.enqueue("bad luck")
    page = admin_client.get(reverse("admin:jobs_job", args=[result.id])).content.decode()
    assert "tests.sample.tasks.fail" in page


# --- what django-tasks requires of a backend --------------------------------------------------


@pytest.mark.parametrize("task", [tasks.give_back, tasks.add_async], ids=["sync", "async"])
@pytest.mark.parametrize("way", ["sync", "async"])
def test_an_enqueued_result_equals_the_one_read_by_its_id(task, way):
    if way == "sync":
        result = task.enqueue(1, right=(2, b"three"))
        found = task.get_result(result.id)
    else:

        async def enqueue():
            result = await task.aenqueue(1, right=(2, b"three"))
            return result, await task.aget_result(result.id)

        result, found = asyncio.run(enqueue())

    assert result == found
    with Kit():
        result_there = task.enqueue(1, right=(2, b"three"))
        assert result_there == task.get_result(result_there.id)
    assert (result.status, result.attempts, result.errors) == (TaskResultStatus.READY, 0, [])
    assert (result.task, result.args, result.kwargs) == (task, [1], {"right": [2, "three"]})
    assert (result.started_at, result.last_attempted_at, result.finished_at) == (None, None, None)
    assert timezone.now() - timedelta(minutes=1) < result.enqueued_at <= timezone.now()


def test_a_run_has_its_times_in_order_and_arefresh_brings_them(worker):
    result = tasks.add_async.enqueue(2, 3)
    worker.run()
    asyncio.run(result.arefresh())

    assert (result.status, result.return_value, result.attempts) == (TaskResultStatus.SUCCESSFUL, 5, 1)
    assert result.enqueued_at <= result.started_at == result.last_attempted_at <= result.finished_at


def test_results_of_other_tasks_and_of_none(worker):
    result = tasks.add.enqueue(1)
    with pytest.raises(TaskResultMismatch):
        tasks.write.get_result(result.id)
    for no_id in ("123", "", "../x"):
        with pytest.raises(TaskResultDoesNotExist):
            tasks.add.get_result(no_id)


def test_each_of_several_backends_returns_only_its_own_results(settings, worker):
    settings.TASKS = {**settings.TASKS, "other": settings.TASKS["default"]}
    result = tasks.add.using(backend="other").enqueue(1)
    worker.run()
    result.refresh()

    assert (result.backend, result.return_value) == ("other", 2)
    with pytest.raises(TaskResultDoesNotExist):
        task_backends["default"].get_result(result.id)


@pytest.mark.parametrize(
    ("how", "expected", "end"),
    [
        ("lines", ValueError, "  third\n"),
        ("chain", OperationalError, "django.db.utils.OperationalError: outer\n"),
        ("while", LookupError, "LookupError: outer\n"),
        ("group", ExceptionGroup, "KeyError: 'two'\n    +------------------------------------\n"),
        ("note", RuntimeError, "KeyError: a note\n"),
        ("exit", SystemExit, "SystemExit: 3\n"),
        ("nested", ValueError, "in it\n"),
    ],
)
def test_the_class_of_its_error_is_in_the_result(how, expected, end, worker, monkeypatch):
    monkeypatch.setattr(RunTask, "retries", 0)
    result = tasks.fail_as.enqueue(how)
    worker.run()
    result.refresh()

    assert (result.status, result.is_finished, result.attempts) == (TaskResultStatus.FAILED, True, 1)
    assert result.errors[0].exception_class is expected
    assert result.errors[0].traceback.endswith(end)
    with pytest.raises(ValueError, match="Task failed"):
        _ = result.return_value


@pytest.mark.parametrize(
    ("what", "expected"), [("nothing", None), ("tuple", [1, "two"]), ("number", {"1": 2})], ids=["None", "list", "dict"]
)
def test_a_result_is_plain_json(what, expected, worker):
    result = tasks.give.enqueue(what)
    worker.run()
    result.refresh()
    assert result.return_value == expected


@pytest.mark.parametrize(
    ("what", "shown"),
    [("set", "<set>"), ("not a number", "<float>"), ("endless", "<list>"), ("odd", "<Odd>"), ("surrogate", "<str>")],
)
def test_of_one_that_is_not_its_type_is_kept_and_the_task_is_done(what, shown, worker, caplog):
    result = tasks.give.enqueue(what)
    worker.run()
    result.refresh()
    assert (result.status, result.attempts, result.return_value) == (TaskResultStatus.SUCCESSFUL, 1, shown)
    assert "returned what is not JSON" in caplog.text


def test_a_receiver_that_raises_when_a_task_has_finished_does_not_repeat_it(worker):
    def receiver(sender, task_result, **kwargs):
        raise RuntimeError("no mail server")

    task_finished.connect(receiver)
    try:
        result = tasks.add.enqueue(2, 3)
        worker.run()
    finally:
        task_finished.disconnect(receiver)
    result.refresh()
    assert (result.status, result.return_value) == (TaskResultStatus.SUCCESSFUL, 5)


def test_arguments_are_what_they_were(worker):
    values = [None, True, -1, 2**70, 1.5, "é😀", [], {}, {"$type": "set", "a": [{"b": []}]}]
    result = tasks.give_back.enqueue(*values, args=1, path="p", backend="b", kwargs={})
    worker.run()
    result.refresh()
    assert result.return_value == [*values, {"args": 1, "path": "p", "backend": "b", "kwargs": {}}]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"queue_name": "urgent"}, "Queue 'urgent' is not valid"),
        ({"priority": 101}, "priority must be a whole number"),
        ({"run_after": datetime(2026, 3, 1)}, "run_after must be an aware datetime"),
    ],
    ids=["queue", "priority", "run_after"],
)
def test_invalid_options_of_a_task_are_refused_immediately(wrong, said):
    with pytest.raises(Exception, match=said) as caught:  # the backport and Django call it by different names
        tasks.add.using(**wrong)
    assert caught.type.__name__ in {"InvalidTask", "InvalidTaskError"}


def test_with_an_empty_list_of_queues_every_queue_is_allowed(settings, worker):
    settings.TASKS = {"default": {**settings.TASKS["default"], "QUEUES": []}}
    assert tasks.add.using(queue_name="low").enqueue(1).status == TaskResultStatus.READY
    with pytest.raises(UnknownQueueError):
        tasks.add.using(queue_name="urgent").enqueue(1)


def test_a_task_that_workers_could_not_import_is_refused_at_enqueue():
    with pytest.raises(ForbiddenFunctionError, match=r"tests\.jobs\.test_backends\.of_no_app"):
        task(of_no_app).enqueue()


def of_no_app():
    """A function in a module of no installed app."""


# --- what every job has ----------------------------------------------------------------------


def test_a_deadlock_is_retried_within_seconds_and_leaves_the_default_budget_alone(worker):
    result = tasks.fail_as.enqueue("deadlock")
    worker.run()
    job = job_of(result)

    assert job.state == "retrying"
    assert job.progress.failures == {"jobs.retries.Deadlock": 1}
    assert get_connection("default").zscore("rq:scheduled:default", job.id) - time.time() <= 3.45


def test_each_attempt_knows_its_number(worker):
    result = tasks.fail_first.enqueue("once")
    worker.run()
    worker.hurry().run()
    result.refresh()
    assert (result.return_value, result.attempts, len(result.errors)) == (2, 2, 1)


@pytest.mark.parametrize("way", ["run_after", "retry"])
def test_an_urgent_one_goes_to_the_head_when_its_time_comes_too(way, worker):
    client = get_connection("low")
    if way == "run_after":
        later = timezone.now() + timedelta(hours=1)
        urgent = tasks.write.using(priority=1, run_after=later).enqueue("urgent")
        other = tasks.write.using(run_after=later).enqueue("other")
    else:
        urgent = tasks.fail.using(priority=1, queue_name="low").enqueue("urgent")
        worker.run()
        other = tasks.write.using(run_after=timezone.now() + timedelta(hours=1)).enqueue("other")
    first = tasks.write.enqueue("first")
    worker.hurry()
    worker.promotion.run(["low"])

    assert [each.decode() for each in client.lrange("rq:queue:low", 0, -1)] == [urgent.id, first.id, other.id]


def test_the_signal_of_a_failure_comes_when_it_is_dead_and_has_every_error(worker, monkeypatch, heard):
    monkeypatch.setattr(RunTask, "retries", 1)
    tasks.fail.enqueue("bad luck")
    worker.run()
    assert [name for name, _ in heard] == ["enqueued", "started"]
    worker.hurry().run()

    assert [name for name, _ in heard] == ["enqueued", "started", "started", "finished"]
    result = heard[-1][1]
    assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 2)
    assert ["bad luck" in error.traceback for error in result.errors] == [True, True]


def test_without_time_zone_support_all_times_are_naive_as_django_gives_them(heard, worker, settings):
    settings.USE_TZ = False
    before = timezone.now()
    result = tasks.add.enqueue(1)
    assert tasks.add.get_result(result.id) == result
    worker.run()
    result.refresh()
    finished = heard[-1][1]
    for each in (result, finished):
        assert before <= each.enqueued_at <= each.started_at <= each.finished_at <= timezone.now()


def test_task_enqueued_is_sent_after_the_commit_and_not_after_a_rollback(heard):
    with transaction.atomic():
        result = tasks.add.enqueue(1)
        assert (heard, result.enqueued_at) == ([], None)
    assert [(name, each.id) for name, each in heard] == [("enqueued", result.id)]
    assert tasks.add.get_result(result.id) == result
    with pytest.raises(RuntimeError), transaction.atomic():
        tasks.add.enqueue(1)
        raise RuntimeError
    assert len(heard) == 1


def test_each_step_of_a_task_is_logged(worker, caplog):
    caplog.set_level("DEBUG", logger="django.tasks" if django.VERSION >= (6, 0) else "django_tasks")
    result = tasks.add.enqueue(1)
    worker.run()
    messages = [line.getMessage() for line in caplog.records if result.id in line.getMessage() and "path=" in line.msg]

    assert [message.split()[-1] for message in messages] == ["backend=default", "state=RUNNING", "state=SUCCESSFUL"]


def test_the_kit_of_tests_knows_tasks(jobs):
    result = tasks.add.enqueue(2, right=3)
    recorded = jobs.assert_enqueued_with(RunTask, kwargs=lambda sent: sent["path"] == "tests.sample.tasks.add")
    jobs.perform_enqueued_jobs()

    assert recorded.id == result.id
    result.refresh()
    assert result.return_value == 5


def test_in_the_kit_a_scheduled_urgent_task_goes_to_the_head_when_it_is_due(jobs):
    later = timezone.now() + timedelta(hours=1)
    for name, priority in (("first", 0), ("urgent", 1)):
        tasks.write.using(priority=priority, run_after=later).enqueue(name)
    jobs.travel(timedelta(hours=2))

    assert [job.kwargs["args"] for job in jobs.performed_jobs] == [["urgent"], ["first"]]


@pytest.mark.processes
def test_with_a_real_worker_beside_functions_of_django_rq(worker_process, admin_client):
    direct = tasks.add.using(queue_name="critical").enqueue(1)
    in_async = tasks.add_async.using(queue_name="critical", priority=5).enqueue(2, 3)
    plain = django_rq.enqueue(functions.add, 4, 5)
    decorated = functions.decorated.delay(6, 7)
    worker = worker_process("critical", "default", burst=True)
    assert worker.wait() == 0, worker.output
    direct.refresh(), in_async.refresh()

    assert [direct.return_value, in_async.return_value] == [2, 5]
    assert [plain.return_value(), decorated.return_value()] == [9, 13]
    for job_id, shown in (
        (direct.id, "tests.sample.tasks.add"),
        (in_async.id, "tests.sample.tasks.add_async"),
        (plain.id, "tests.sample.functions.add"),
        (decorated.id, "tests.sample.functions.decorated"),
    ):
        assert shown in admin_client.get(reverse("admin:jobs_job", args=[job_id])).content.decode()
