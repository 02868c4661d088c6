"""kill -9 where RQ's own code writes what a plain job ended as: nothing is lost, neither job, retry nor dependent."""

from collections import Counter

import pytest
from rq import Retry

from jobs.broker.connections import get_connection
from jobs.queues import get_queue
from tests.faults.apps import PLAIN_POINTS
from tests.jobs.worker import eventually
from tests.sample import functions
from tests.sample.models import Note

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

# The first success has a dependent; the first failure is retried at once, the second one in a second.
STRIKES = [(point, number) for point in PLAIN_POINTS for number in ([1, 2] if "failure" in point else [1])]


@pytest.mark.parametrize(("point", "number"), STRIKES)
def test_nothing_is_lost(point, number, worker_process, tmp_path, places):
    queue, marker = get_queue("default"), tmp_path / "struck"
    first = queue.enqueue(functions.write_note, "first")
    second = queue.enqueue(functions.write_note, "second", depends_on=first)
    at_once = queue.enqueue(functions.fail_once, "at once", retry=Retry(max=2))
    soon = queue.enqueue(functions.fail_once, "soon", retry=Retry(max=2, interval=1))
    failed = queue.enqueue(functions.fail)
    worker_process(
        "default",
        concurrency=1,
        env={
            "DJANGO_SETTINGS_MODULE": "tests.faulty",
            "FAULT": f"{point}:{number}",
            "FAULT_MARKER": str(marker),
            "RESTART_DELAY": "0.05",
            "EVERY": "0.5",  # with the beats, what was left half done is finished
        },
    )
    jobs = [first, second, at_once, soon]
    eventually(lambda: all(job.get_status() == "finished" for job in jobs) and failed.get_status() == "failed")

    assert marker.exists(), "the fault never struck"
    runs = Counter(Note.objects.values_list("text", flat=True))
    interrupted = [bool(get_connection("default").hget(job.key, "interruptions")) for job in [*jobs, failed]]
    assert runs.keys() == {"first", "second", "at once", "soon"}
    assert sum(interrupted) == ("before" in point)
    assert runs == Counter(runs.keys()) + Counter({"first": int(interrupted[0])})
    expected = {job.id: ["finished:default"] for job in jobs} | {failed.id: ["failed:default"]}
    eventually(lambda: places() == expected)


def test_a_job_begins_whatever_lies_at_rqs_intermediate_queue(worker_process):
    """RQ's own worker moves jobs through it, ours does not."""
    queue = get_queue("default")
    get_connection("default").set(queue.intermediate_queue_key, "no list")
    job = queue.enqueue(functions.add, 1, 2)

    assert worker_process("default", burst=True).wait() == 0
    assert job.is_finished
