"""`manage.py rqworker` as an operator types it."""

from collections.abc import Callable

import pytest

from jobs.queues import get_queue
from tests.processes import WorkerProcess, wait_until
from tests.sample.commands.notes import WriteNote
from tests.sample.models import Note

pytestmark = pytest.mark.processes


def test_it_runs_json_jobs_with_no_option_but_the_queues(worker_process: Callable[..., WorkerProcess]) -> None:
    # django-rq's own default serializer is pickle, which loses every JSON job.
    jobs = [WriteNote.defer(f"by {queue}", queue=queue) for queue in ["low", "critical", "mailers"]]

    worker = worker_process("critical", "default", "mailers", "background", "low", burst=True, fresh=True)

    assert worker.wait() == 0, worker.output
    assert [job.state for job in jobs] == ["finished"] * 3, worker.output
    assert set(Note.objects.values_list("text", flat=True)) == {"by critical", "by mailers", "by low"}


def test_a_running_worker_takes_what_is_deferred_and_leaves_when_told(
    worker_process: Callable[..., WorkerProcess],
) -> None:
    worker = worker_process("critical", "default", fresh=True)

    job = WriteNote.defer("hello")
    wait_until(lambda: job.state == "finished")
    code = worker.stop()

    assert Note.objects.get().text == "hello"
    assert code == 0, worker.output
    assert get_queue("default").count == 0
