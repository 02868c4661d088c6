"""A worker's clock is wrong, or is set while it runs: the server's alone decides."""

import time

import pytest

from jobs import control, runtime
from jobs.attempts.outcomes import Finished
from jobs.broker.connections import get_connection
from jobs.worker.release import release
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
    fetch._in_doubt = True
    fetch._step(claims=True)
    assert len(measured) == 2


def test_a_slow_answer_does_not_set_the_clock_back_but_a_clock_that_was_set_does(monkeypatch):
    monkeypatch.setattr(runtime, "_ahead", 0.0)
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    for answer, now in ((5_000, 5_000.0), (4_999.5, 5_000.0), (5_001, 5_001.0), (4_000, 4_000.0)):
        seconds, part = divmod(answer, 1)
        runtime.measure((str(int(seconds)), str(int(part * 1e6))))
        assert runtime.server_now() == now
