"""kill -9 at each step of a job's life: nothing is lost, and nothing runs twice that had not begun."""

from collections import Counter

import pytest

from jobs.broker.connections import get_connection
from tests.faults.apps import POINTS
from tests.jobs.worker import eventually
from tests.sample.commands.notes import WriteNote
from tests.sample.models import Note

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

JOBS, THREADS = 12, 2


@pytest.mark.parametrize("kills", ["child", "all"])
@pytest.mark.parametrize("number", [1, 4])
@pytest.mark.parametrize("step", POINTS)
def test_nothing_is_lost(step, number, kills, worker_process, tmp_path, places, valkey):
    jobs = WriteNote.defer_many([(str(n),) for n in range(JOBS)])
    marker = tmp_path / "struck"
    burst = step != "before the doorbell"  # a burst never waits
    if not burst:
        number = 1
    elif "in flight" in step:  # few steps are sent ahead; a slow machine sends two
        number = min(number, 2)
    faulty = worker_process(
        "default",
        concurrency=THREADS,
        env={
            "DJANGO_SETTINGS_MODULE": "tests.faulty",
            "FAULT": f"{step}:{number}",
            "FAULT_MARKER": str(marker),
            "FAULT_KILLS": kills,
            "RESTART_DELAY": "0.05",
            **({"QUICK_JOBS": "1"} if "in flight" in step else {}),
        },
        **({"burst": True} if burst else {}),
    )
    if kills == "all":
        faulty.wait()
    elif burst:
        assert faulty.wait() == 0, faulty.output
    else:
        eventually(marker.exists)
        faulty.stop()
    assert marker.exists(), "the fault never struck"

    with valkey.client() as client:  # the thirty seconds pass
        for name in client.zrange("jobs:workers", 0, -1):
            client.zadd("jobs:workers", {name: 1})
    healthy = worker_process("default", concurrency=THREADS, burst=True)
    assert healthy.wait() == 0, healthy.output

    runs = Counter(Note.objects.values_list("text", flat=True))
    interrupted = sum(bool(get_connection("default").hget(job.key, "interruptions")) for job in jobs)
    assert set(runs) == {str(n) for n in range(JOBS)}
    # While jobs are quick, some have ended and wait for the next step: at most the four of the batch, twice.
    assert sum(runs.values()) - JOBS <= interrupted <= THREADS + (8 if "in flight" in step else 0)
    assert [job.state for job in jobs] == ["finished"] * JOBS
    assert places() == {job.id: ["finished:default"] for job in jobs}
