"""The server is away for longer than a worker may be silent: no worker counts as dead, and no job runs twice."""

import os
import signal
import time
from collections import Counter

import pytest

from jobs.broker.connections import get_connection
from jobs.queues import get_queue
from tests.jobs.worker import eventually
from tests.sample import functions
from tests.sample.commands.long import Patient
from tests.sample.commands.notes import WriteNote
from tests.sample.models import Note

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

OUTAGE = 10.0  # seconds
# A worker that is silent for 6 seconds is dead here: ten seconds are to it what a minute is to a real one.
QUICK = {"DJANGO_SETTINGS_MODULE": "tests.faulty", "EVERY": "1", "UNSEEN": "6", "SILENCE": "3"}


def interruptions(job):
    return int(get_connection("default").hget(job.key, "interruptions") or 0)


def test_an_outage_loses_and_repeats_nothing(worker_process, valkey, tmp_path):
    """Jobs of two workers end during it, others after it; a third worker dies in it."""
    during, after, orphaned = (tmp_path / name for name in ("during", "after", "orphaned"))
    orphan = Patient.defer(str(tmp_path / "orphan"), str(orphaned))
    doomed = worker_process("default", concurrency=1, env=QUICK)
    eventually((tmp_path / "orphan").exists)
    running = [
        Patient.defer(str(tmp_path / f"{release.name}-{n}"), str(release)) for release in (during, after) for n in "12"
    ]
    plain = [get_queue("default").enqueue(functions.wait, str(release)) for release in (during, after)]
    survivors = [worker_process("default", concurrency=3, env=QUICK) for _ in range(2)]
    eventually(lambda: all(job.state == "running" for job in [*running, *plain]))
    eventually(lambda: Note.objects.filter(text="begun").count() == 2)
    queued = WriteNote.defer_many([("queued",)] * 20)

    valkey.kill()
    until = time.monotonic() + OUTAGE
    doomed.kill()
    os.killpg(doomed.pid, signal.SIGKILL)  # its child, in the session that it had made
    during.touch()
    eventually(lambda: Note.objects.filter(text=str(during)).count() == 2)
    eventually(lambda: time.monotonic() > until)
    valkey.start()

    eventually(lambda: all(job.state == "finished" for job in [*running[:2], plain[0], *queued]))
    assert not after.exists()
    assert [job.state for job in running[2:]] == ["running"] * 2
    after.touch()
    orphaned.touch()
    eventually(lambda: all(job.state == "finished" for job in [*running, *plain, orphan]))
    expected = {str(during): 2, str(after): 2, str(orphaned): 1, "queued": 20, "begun": 2, "over": 2}
    assert Counter(Note.objects.values_list("text", flat=True)) == expected
    assert [interruptions(job) for job in [orphan, *running, *plain, *queued]] == [1] + [0] * 26
    for worker in survivors:
        assert "refused late result" not in worker.output
        assert worker.stop() == 0
