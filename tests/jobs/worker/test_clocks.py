"""A worker's clock is wrong, or is set while it runs: the server's alone decides."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from jobs import control, runtime, scheduler
from jobs.attempts.outcomes import Finished
from jobs.broker.connections import get_connection
from jobs.job import MandateJob
from jobs.scheduler import Entry
from jobs.worker.release import release
from tests.sample.commands.limits import Fresh
from tests.sample.commands.notes import WriteNote
from tests.sample.commands.trouble import Trouble

HOUR = 3_600.0


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("ahead", [HOUR, -HOUR], ids=["ahead", "behind"])
def test_waits_are_counted_by_the_servers_clock(worker_process, ahead):
    retried = Trouble.defer()
    first = WriteNote.defer("first")
    waiting = WriteNote.defer("waiting", wait=600, prereq_jobs=[first])
    env = {"DJANGO_SETTINGS_MODULE": "tests.faulty", "CLOCK_AHEAD": str(ahead)}
    worker_process("default", burst=True, env=env).wait()

    client = get_connection("default")
    assert (retried.state, first.state, waiting.state) == ("retrying", "finished", "scheduled")
    left = client.zscore("rq:scheduled:default", retried.id) - client.time()[0]
    assert 0 < left < HOUR


def test_dependents_are_released_by_the_servers_clock(new_fetch, monkeypatch):
    first = WriteNote.defer("first")
    waiting = WriteNote.defer("waiting", wait=600, prereq_jobs=[first])
    fetch = new_fetch("w")
    fetch._step(claims=True)
    (claim,) = fetch.held.values()
    fetch.commits.add(claim, Finished(None, 500), "sample.WriteNote", 0.0)
    members = fetch._step(claims=False)
    monkeypatch.setattr(runtime, "now", lambda: time.time() + HOUR)
    release(get_connection("default"), members[0])
    assert waiting.state == "scheduled"


@pytest.mark.parametrize("ahead", [HOUR, -HOUR], ids=["ahead", "behind"])
def test_a_cancelled_job_is_kept_by_the_servers_clock(ahead, monkeypatch):
    """It is changed by a web process, whose clock nobody measures."""
    job = WriteNote.defer("x")
    monkeypatch.setattr(runtime, "now", lambda: time.time() + ahead)
    control.cancel(job)
    client = get_connection("default")
    now = client.time()[0]
    assert now + 86_400 - 60 < client.zscore("rq:canceled:default", job.id) <= now + 86_400 + 60


def test_the_servers_clock_goes_on_when_the_machines_is_set(monkeypatch):
    monkeypatch.setattr(runtime, "_ahead", 0.0)
    runtime.measure((b"4000000000", b"250000"))
    first = runtime.server_now()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert 4_000_000_000.25 <= first <= runtime.server_now() < 4_000_000_060


def test_a_fetch_measures_the_servers_clock_anew_after_an_outage(new_fetch, monkeypatch):
    measured = []
    monkeypatch.setattr(runtime, "measure", measured.append)
    fetch = new_fetch("w")
    fetch._step(claims=True)
    fetch._step(claims=True)
    assert len(measured) == 1
    fetch._steps._in_doubt = True
    fetch._step(claims=True)
    assert len(measured) == 2


def test_a_slow_answer_does_not_set_the_clock_back_but_a_clock_that_was_set_does(monkeypatch):
    monkeypatch.setattr(runtime, "_ahead", 0.0)
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    for answer, now in ((5_000, 5_000.0), (4_999.5, 5_000.0), (5_001, 5_001.0), (4_000, 4_000.0)):
        seconds, part = divmod(answer, 1)
        runtime.measure((str(int(seconds)), str(int(part * 1e6))))
        assert runtime.server_now() == now


@pytest.fixture(params=[600, -600, 90_000], ids=["ahead", "behind", "a day ahead"])
def web_clock(request, monkeypatch):
    """A web process, whose clock nobody measures."""
    monkeypatch.setattr(runtime, "now", lambda: time.time() + request.param)


def left(job, field=None):
    """Seconds by the server's clock until the job is due, or until the time in a field of its record."""
    client = get_connection("default")
    at = client.hget(job.key, field) if field else client.zscore("rq:scheduled:default", job.id)
    seconds, part = client.time()
    return float(at) - seconds - part / 1e6


@pytest.mark.usefixtures("web_clock")
class TestAWebProcess:
    def test_a_wait_is_counted_by_the_servers_clock(self, new_fetch):
        assert left(WriteNote.defer("x", wait=300)) == pytest.approx(300, abs=30)
        first, second = WriteNote.defer_many([("x",), ("y",)], wait=100, spread=400)
        assert [left(first), left(second)] == pytest.approx([100, 300], abs=30)
        (first, second) = WriteNote.defer_many([("x",), ("y",)], spread=400)
        assert [left(first), left(second)] == pytest.approx([0, 200], abs=30)
        waiting = WriteNote.defer("x", wait=300, prereq_jobs=[WriteNote.defer("first")])
        assert left(waiting, "due") == pytest.approx(300, abs=30)

    @pytest.mark.django_db(transaction=True)
    def test_a_wait_is_counted_from_defer_inside_a_transaction_too(self, monkeypatch):
        with transaction.atomic():
            job = WriteNote.defer("x", wait=300)
            before = runtime.now
            monkeypatch.setattr(runtime, "now", lambda: before() + 200)
        assert left(job) == pytest.approx(100, abs=30)

    def test_a_time_is_the_callers(self):
        at = datetime.now(UTC) + timedelta(hours=2)
        assert left(WriteNote.defer("x", wait_until=at)) == pytest.approx(7_200, abs=30)

    def test_an_expiry_is_counted_by_the_servers_clock(self):
        assert left(Fresh.defer(), "expires_at") == pytest.approx(60, abs=30)
        assert left(Fresh.defer(wait=300), "expires_at") == pytest.approx(360, abs=30)

    def test_an_entry_recurs_by_the_servers_clock(self):
        scheduler.add(Entry("hourly", Fresh, every=3_600))
        client = get_connection("default")
        due = client.zscore("rq:scheduler:scheduled_jobs", "entry-hourly")
        assert due - client.time()[0] == pytest.approx(3_600, abs=30)
        run = MandateJob(scheduler.run_now("hourly"), connection=client)
        assert left(run, "expires_at") == pytest.approx(60, abs=30)
