"""Limits on real workers: bodies that do not come back, and processes that are killed."""

import pytest

from jobs import control
from jobs.broker.connections import get_connection
from jobs.limits import control as limits
from tests.jobs.worker import eventually
from tests.jobs.worker.test_limits import kept
from tests.sample.commands.limited import KillsItsWorker, OneAtATime, Rated, Stubborn
from tests.sample.commands.notes import WriteNote
from tests.sample.models import Note

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]


def told():
    return list(Note.objects.order_by("id").values_list("text", flat=True))


def test_the_next_starts_only_when_a_cancelled_body_has_come_back(worker_process):
    worker_process("default", concurrency=3)
    first = Stubborn.defer("first")
    eventually(lambda: "first enters" in told())
    second = Stubborn.defer("second")

    control.cancel(first)

    eventually(lambda: second.state == "finished")
    assert [text for text in told() if text != "interrupted"] == [
        *("first enters", "first leaves"),
        *("second enters", "second leaves"),
    ]
    assert "interrupted" in told()
    assert first.state == "cancelled"
    eventually(lambda: not [key for key in kept() if not key.startswith("jobs:limit:")])


def test_a_killed_process_loses_its_slots_and_nothing_else(worker_process, tmp_path):
    jobs = KillsItsWorker.defer_many([(str(tmp_path / "marker"), number) for number in range(5)])
    worker_process("default", concurrency=2, processes=2)

    eventually(lambda: all(job.state == "finished" for job in jobs))

    order = [text for text in told() if text != "0 enters"]
    assert order == ["0 leaves", *(f"{number} {does}" for number in range(1, 5) for does in ("enters", "leaves"))]
    assert told().count("0 enters") == 2
    eventually(lambda: not [key for key in kept() if not key.startswith("jobs:limit:")])


def test_a_paused_command_waits_and_others_run(worker_process):
    limits.pause("sample.WriteNote")
    worker_process("default", concurrency=2, processes=2)
    jobs = WriteNote.defer_many([(str(number),) for number in range(20)])
    other = OneAtATime.defer(1)
    eventually(lambda: other.state is None and all(job.state == "limited" for job in jobs))
    assert told() == []

    limits.resume("sample.WriteNote")

    eventually(lambda: all(job.state is None or job.state == "finished" for job in jobs))
    eventually(lambda: not [key for key in kept() if not key.startswith("jobs:limit:")])


def test_a_worker_waits_for_a_rate_at_the_doorbell(worker_process):
    jobs = Rated.defer_many([(number,) for number in range(3)])
    worker_process("default", concurrency=2)
    eventually(lambda: jobs[1].state == "finished" and jobs[2].state == "limited")
    client = get_connection("default")

    client.delete("jobs:rate:sample.Rated:rate:=")  # its minute has passed
    client.zadd("jobs:limits:due", {"sample.Rated:rate:=": 1})

    eventually(lambda: jobs[2].state == "finished")
