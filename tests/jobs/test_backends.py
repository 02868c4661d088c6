"""Django's own Tasks API on our queues: enqueued on commit, run by our workers, with every job's retries and page."""

import asyncio
from datetime import timedelta

import pytest
from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from jobs import MandateJob, control
from jobs.backends import RQBackend, task_of
from jobs.connections import get_connection
from jobs.direct import (
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_backends,
    task_enqueued,
    task_finished,
    task_started,
)
from jobs.errors import ForbiddenFunctionError
from tests.sample import tasks
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
    told, added = tasks.tell_attempt.enqueue(), tasks.add_async.enqueue(2, 3)
    worker.run()
    for result in (told, added):
        result.refresh()
    assert told.return_value == [told.id, 1]
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


def test_a_result_that_is_no_json_is_a_failure(worker):
    result = tasks.return_object.enqueue()
    worker.run()
    result.refresh()
    assert "not JSON serializable" in result.errors[0].traceback


@pytest.mark.parametrize("end", [control.cancel, control.delete])
def test_a_cancelled_one_has_failed_and_a_deleted_one_is_gone(end):
    result = tasks.add.enqueue(1)
    end(job_of(result))
    if end is control.cancel:
        assert tasks.add.get_result(result.id).status == TaskResultStatus.FAILED
    else:
        with pytest.raises(TaskResultDoesNotExist):
            tasks.add.get_result(result.id)


def test_signals(worker):
    heard = []
    for name, signal in (("enqueued", task_enqueued), ("started", task_started), ("finished", task_finished)):
        receiver = lambda sender, task_result, name=name, **kwargs: heard.append((name, task_result.status.value))  # noqa: E731
        signal.connect(receiver, sender=RQBackend, weak=False)
    try:
        tasks.add.enqueue(1)
        worker.run()
    finally:
        for signal in (task_enqueued, task_started, task_finished):
            signal.receivers = [each for each in signal.receivers if each[0][1] != id(RQBackend)]
            signal.sender_receivers_cache.clear()
    assert heard == [("enqueued", "READY"), ("started", "RUNNING"), ("finished", "SUCCESSFUL")]


@pytest.mark.parametrize("bad", [{"args": [object()]}, {"args": [{1, 2}]}])
def test_arguments_that_are_no_json_are_refused(bad):
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
def test_a_payload_names_tasks_of_installed_apps_alone(path):
    with pytest.raises(ForbiddenFunctionError):
        task_of(path, "default")


def test_a_result_of_something_else_is_not_found(worker):
    with pytest.raises(TaskResultDoesNotExist):
        task_backends["default"].get_result(WriteNote.defer("x").id)


def test_a_queue_that_there_is_not_is_a_check_error():
    backend = RQBackend("odd", {"QUEUES": ["urgent"], "OPTIONS": {}})
    assert [message.id for message in backend.check()] == ["jobs.E009"]
    assert task_backends["default"].check() == []


def test_it_is_on_the_dashboard(worker, admin_client):
    result = tasks.fail.enqueue("bad luck")
    page = admin_client.get(reverse("admin:jobs_job", args=[result.id])).content.decode()
    assert "tests.sample.tasks.fail" in page
