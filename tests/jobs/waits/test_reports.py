"""`self.report` writes how far a job is while it runs, at most twice a second, and only while the job is its own."""

import asyncio
import logging
import threading

import pytest

from jobs import control, execution
from jobs.attempts.interrupt import Interruptible
from jobs.broker.connections import get_connection
from jobs.waits import reports
from jobs.worker.surroundings import new_context
from tests.sample.commands.acts import Act
from tests.sample.commands.waiting import Measure, MeasureOnLoop

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def writes(monkeypatch):
    """The reports that were written."""
    written = []
    run = reports.run_script

    def noting(client, script, places, words):
        run(client, script, places, words)
        written.append(words[-1])

    monkeypatch.setattr(reports, "run_script", noting)
    return written


def played(monkeypatch, play):
    monkeypatch.setattr(Act, "play", play, raising=False)
    return Act.defer()


def test_a_report_is_there_while_the_job_runs(worker, monkeypatch):
    seen = []

    def play(command):
        command.report(2, 5, "reading")
        seen.append(job.report)
        command.report(3)
        seen.append(job.report)

    job = played(monkeypatch, play)
    assert job.report is None
    worker.run()
    first, second = seen
    assert (first.done, first.total, first.text, first.percent) == (2, 5, "reading", 40)
    assert (second.done, second.total, second.text, second.percent) == (3, None, "", None)


def test_a_tight_loop_writes_few_and_the_last_goes_with_the_outcome(worker, writes, monkeypatch):
    monkeypatch.setattr(reports, "EVERY", 60.0)
    job = Measure.defer(1_000)
    worker.run()
    assert len(writes) == reports.AT_ONCE
    assert job.report[:3] == (1_000, 1_000, "counting")


@pytest.mark.parametrize(("name", "text"), [("each", ""), ("grading", "grading")])
def test_a_loop_with_a_total_reports_by_itself(name, text, worker, monkeypatch):
    def play(command):
        for _ in command.each(range(30), total=40, name=name):
            pass

    job = played(monkeypatch, play)
    worker.run()
    assert job.report[:3] == (30, 40, text)


def test_a_failed_attempt_leaves_its_last_report(worker):
    job = Measure.defer(50, fail=True)
    worker.step()
    assert job.state == "retrying"
    assert job.report[:2] == (50, 50)


def test_on_an_event_loop_the_report_is_written_by_another_thread(worker, writes):
    job = MeasureOnLoop.defer(20)
    worker.run()
    assert job.report[:2] == (20, 20)


def test_reports_on_an_event_loop_overtake_none_that_came_after_them(worker, monkeypatch):
    """The first is held up on its way to the server until the second is written, if that is possible."""
    run, is_second_written = reports.run_script, threading.Event()
    first, second = reports.checked(1, 2, ""), reports.checked(2, 2, "")

    def hold_up_the_first(client, script, places, words):
        if words[-1] == first:
            is_second_written.wait(0.5)
        run(client, script, places, words)
        if words[-1] == second:
            is_second_written.set()

    async def report_twice():
        reporter.add(first)
        reporter.add(second)
        await asyncio.get_running_loop().shutdown_default_executor()

    job = Act.defer()
    reporter = reports.Reporter(worker.claim())
    monkeypatch.setattr(reports, "run_script", hold_up_the_first)
    asyncio.run(report_twice())

    assert job.report[:2] == (2, 2)
    assert not reporter.unwritten


def test_a_job_that_is_no_longer_its_own_gets_no_report(worker, monkeypatch):
    def play(command):
        control.delete(job)
        command.report(1, 2)

    job = played(monkeypatch, play)
    worker.run()
    assert not get_connection("default").exists(job.key)


def test_without_a_worker_it_does_nothing():
    assert Measure.run(3) == 3


def test_a_server_that_is_away_does_not_stop_the_job(worker, valkey, caplog, monkeypatch):
    job = Measure.defer(3)
    claim = worker.claim()
    valkey.kill()
    with caplog.at_level(logging.WARNING, "jobs"):
        outcome, _ = new_context().run(execution.attempt, claim, Interruptible())
    valkey.start()
    assert outcome.result == b"3"
    assert f"the report of job {job.id} is not written" in caplog.text


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ((-1, 2), "report: done=-1 is impossible"),
        ((float("nan"), 2), "report: done=nan is impossible"),
        ((1, float("inf")), "report: total=inf is impossible"),
        ((True, 2), "report: done=True is impossible"),
        (("1", 2), "report: done='1' is impossible"),
        ((1, 2, 3), "report: the text 3 is no str"),
    ],
)
def test_what_is_no_report_is_refused_without_a_worker_too(words, error):
    class Wrong(Measure):
        def call(self):
            self.report(*words)

    with pytest.raises((ValueError, TypeError), match=error):
        Wrong.run(1)


def test_odd_numbers_and_texts_are_taken(worker, monkeypatch):
    job = played(monkeypatch, lambda command: command.report(7, 0, "\ud800" + "x" * 500))
    worker.run()
    assert (job.report.done, job.report.total, job.report.percent) == (7, 0, None)
    assert len(job.report.text) == reports.TEXT_LENGTH
    assert reports.Report(12, 10, "", job.report.at).percent == 100


@pytest.mark.parametrize(
    "stored", [b"", b"7", b"[1]", b"[1,2,3,4]", b'["a",2,"",1]', b'[1,2,"",1e300]', b"\xff", b"{}"]
)
def test_what_is_not_ours_in_the_record_is_none(stored):
    assert reports.read(stored) is None
