"""The outcomes of failed attempts, on a real server: retried, dead, discarded, requeued, with all their records."""

import functools
import time

import pytest

from jobs import control
from jobs.attempts.reasons import reason_of
from jobs.broker.connections import get_connection
from jobs.errors import ChangeRefusedError, NotInWorkerError
from jobs.inspection import JobQuery
from jobs.job import JobState
from tests.sample.commands.groups import InGroup
from tests.sample.commands.trouble import (
    Again,
    AsyncHooks,
    BadHooks,
    LazyHooks,
    Ruled,
    Trouble,
    TroubleOnce,
    TroubleTwice,
    Wrapped,
)
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def calls():
    Trouble.told.clear()
    return Trouble.told


def score(job, registry="scheduled"):
    return get_connection("default").zscore(f"rq:{registry}:{job.origin}", job.id)


def names(job):
    return [event.name for event in job.history]


def test_a_failed_job_is_retried_under_its_id_until_it_comes_through(worker, places):
    job = TroubleTwice.defer(times=2)

    worker.run()
    assert job.state == "retrying"
    assert job.reason == "RuntimeError: as planned"
    assert 15 <= score(job) - time.time() + 1 <= 26
    assert places() == {job.id: ["scheduled:default"]}
    assert worker.run() == 0

    assert worker.hurry().run() == 1
    assert job.progress.attempts == 2
    assert worker.hurry().run() == 1
    assert (job.state, job.reason, job.return_value()) == ("finished", None, "through")
    assert names(job) == ["queued", "failed", "retried", "failed", "retried", "started", "finished"]


def test_a_type_error_of_the_commands_own_code_is_a_failure_like_any(worker, monkeypatch):
    job, init = TroubleTwice.defer(times=0), TroubleTwice.__init__

    @functools.wraps(init)
    def with_a_check(self, *args, **kwargs):
        init(self, *args, **kwargs)
        raise TypeError("a float is no date")

    monkeypatch.setattr(TroubleTwice, "__init__", with_a_check)
    worker.run()
    assert (job.state, job.reason) == ("retrying", "TypeError: a float is no date")


def test_every_attempts_error_is_kept_in_full(worker):
    job = TroubleTwice.defer()
    for _ in range(3):
        worker.hurry().run()

    assert job.state == "dead"
    results = job.results()
    assert [result.type.name for result in results] == ["FAILED", "RETRIED", "RETRIED"]
    assert all("RuntimeError: as planned" in result.exc_string for result in results)
    assert all(result.worker_name == "inline" for result in results)
    assert all(result.execution_started_at <= result.execution_ended_at for result in results)
    assert names(job).count("failed") == 3


def test_when_retries_are_used_up_the_job_is_dead_and_its_budget_fresh(worker, places):
    job = TroubleTwice.defer()
    for _ in range(3):
        worker.hurry().run()

    assert (job.state, job.reason) == ("dead", "RuntimeError: as planned")
    assert places() == {job.id: ["failed:default"]}
    client = get_connection("default")
    assert client.ttl(job.key) == pytest.approx(180 * 86_400, abs=5)
    assert client.ttl(f"rq:results:{job.id}") == pytest.approx(180 * 86_400, abs=5)
    assert job.progress.failures == {}


@pytest.mark.parametrize("how", ["control.retry", "job.requeue", "RQ's registry"])
def test_a_person_who_retries_a_dead_job_gives_it_a_fresh_budget(how, worker):
    job = TroubleTwice.defer(times=5)
    for _ in range(3):
        worker.hurry().run()
    assert job.state == "dead"

    if how == "control.retry":
        control.retry(job)
    elif how == "job.requeue":
        job.requeue()
    else:
        from jobs.queues import get_queue

        get_queue("default").failed_job_registry.requeue(job.id)
    assert job.state == "queued"
    worker.run()
    assert job.state == "retrying"
    for _ in range(2):
        worker.hurry().run()

    assert job.state == "finished"
    assert get_connection("default").ttl(job.key) <= 500


def test_discarded_errors_are_dropped_visibly(worker, calls, places):
    job = Ruled.defer("hopeless")
    worker.run()

    assert (job.state, job.reason) == ("discarded", "HopelessError: as planned")
    assert places() == {job.id: ["canceled:default"]}
    assert get_connection("default").ttl(job.key) == pytest.approx(86_400, abs=5)
    assert calls == [("discard", "HopelessError: as planned")]
    assert names(job)[-1] == "discarded"


def test_a_cause_counts_as_the_error(worker):
    job = Wrapped.defer("hopeless")
    worker.run()
    assert job.state == "discarded"


def test_a_locked_database_is_retried_in_seconds(worker):
    job = TroubleOnce.defer("locked", times=1)
    worker.run()

    assert job.state == "retrying"
    assert 1 < score(job) - time.time() < 3.5
    worker.hurry().run()
    assert job.state == "finished"


def test_hooks_are_called_and_change_nothing(worker, calls):
    job = Ruled.defer("flaky")
    for _ in range(3):
        worker.hurry().run()

    assert job.state == "dead"
    assert calls == [("retry", "as planned", 1, 10.0), ("retry", "as planned", 2, 10.0), ("dead", "as planned")]


def test_a_hook_that_raises_is_logged_and_changes_nothing(worker, caplog):
    job = BadHooks.defer("flaky")
    for _ in range(3):
        worker.hurry().run()

    assert job.state == "dead"
    assert caplog.text.count("on_retry of BadHooks raised") == 2
    assert caplog.text.count("on_dead of BadHooks raised") == 1


@pytest.mark.parametrize(
    ("error", "texts"),
    [("flaky", ["retry 1", "retry 2", "dead: as planned"]), ("hopeless", ["discard: HopelessError: as planned"])],
)
def test_async_hooks_are_run_to_their_end(error, texts, worker):
    AsyncHooks.defer(error)
    for _ in range(3):
        worker.hurry().run()

    assert list(Note.objects.exclude(text__startswith="attempt").values_list("text", flat=True)) == texts


def test_a_hook_that_has_not_run_is_logged(worker, caplog):
    job = LazyHooks.defer("flaky")
    for _ in range(3):
        worker.hurry().run()

    assert job.state == "dead"
    assert caplog.text.count("LazyHooks.on_retry returned a generator, so its body has not run") == 2
    assert caplog.text.count("LazyHooks.on_dead returned a generator, so its body has not run") == 1


async def hear_async(job, error):
    heard.append((job.command_name, await Note.objects.acount(), str(error)))


def hear_lazily(job, error):
    yield heard.append("lazily")


def test_async_handlers_are_run_to_their_end_and_one_with_yield_is_logged(worker, settings, caplog):
    heard.clear()
    paths = [f"{__name__}.hear_lazily", f"{__name__}.hear_async"]
    settings.JOBS = {**settings.JOBS, "ON_FAILURE": paths, "ON_DEAD": paths}
    TroubleOnce.defer()
    worker.run()

    assert heard == [("sample.TroubleOnce", 1, "as planned")] * 2
    assert caplog.text.count("hear_lazily returned a generator, so its body has not run") == 2


def hear(job, error):
    heard.append((job.command_name, job.state, str(error)))


def stumble(job, error):
    raise SystemExit("the tracker is down")


heard: list[tuple] = []


def test_the_projects_handlers_are_called_for_failures_and_deaths(worker, settings, caplog):
    heard.clear()
    path = f"{__name__}.hear"
    settings.JOBS = {**settings.JOBS, "ON_FAILURE": [f"{__name__}.stumble", path], "ON_DEAD": [path]}
    TroubleTwice.defer()
    for _ in range(3):
        worker.hurry().run()

    assert heard == [("sample.TroubleTwice", "running", "as planned")] * 4
    assert caplog.text.count("stumble") >= 3


# --- requeue_job -----------------------------------------------------------------------------


@pytest.mark.parametrize("pause", [0, 30])
def test_a_requeued_job_keeps_its_id_and_uses_no_retry(pause, worker, places):
    job = Again.defer(times=2, pause=pause)
    worker.run()
    if pause:
        assert (job.state, job.reason) == ("scheduled", None)
        assert 20 < score(job) - time.time() < 31
        assert job.progress.requeues == 1
        worker.hurry().run()
        worker.hurry().run()

    assert job.state == "finished"
    assert names(job).count("requeued") == 2
    assert names(job).count("failed") == 0
    assert places() == {job.id: ["finished:default"]}


def test_writes_of_a_requeued_call_are_rolled_back_and_the_requeue_is_not(worker):
    job = Again.defer()
    worker.run()

    assert job.state == "scheduled"
    assert not Note.objects.exists()


def test_too_many_requeues_are_dead(worker):
    job = Again.defer(times=9, pause=0)
    worker.run()

    assert (job.state, job.reason) == ("dead", "requeued more than its 3 times")
    assert worker.attempts == 4


def test_outside_a_worker_there_is_nothing_to_requeue():
    with pytest.raises(NotInWorkerError, match="Again cannot be requeued"):
        Again().requeue_job(1)


@pytest.mark.parametrize("pause", [-1, "soon", None])
def test_an_impossible_wait_is_a_failure_with_that_reason(pause, worker):
    job = Again.defer(pause=pause)
    worker.run()
    assert job.return_value() == "swallowed"


# --- groups ----------------------------------------------------------------------------------


def test_the_reason_of_a_group_has_its_members_within_bounds():
    group = ExceptionGroup("several", [ValueError("x"), ExceptionGroup("inner", [KeyError("y")])])
    assert reason_of(group) == "ExceptionGroup: several (2): ValueError: x; KeyError: 'y'"

    many = reason_of(ExceptionGroup("many", [ValueError("x" * 100)] * 100_000))
    assert many.startswith("ExceptionGroup: many (100000): ValueError: xxx")
    assert len(many) == 500


def test_groups_are_grouped_by_their_own_class_on_the_dashboard(worker):
    job = InGroup.defer(["hopeless", "hopeless"])
    worker.run()

    (row,) = JobQuery(state=JobState.DISCARDED, error="ExceptionGroup", text="HopelessError").page().rows
    assert (row.id, row.error) == (job.id, "ExceptionGroup")


# --- kept within bounds ----------------------------------------------------------------------


def test_a_queue_keeps_so_many_dead_jobs_and_the_oldest_go_first(worker, caplog, places):
    worker.fetch._steps._dead_limit = 3
    jobs = TroubleOnce.defer_many([()] * 5)
    client = get_connection("default")
    while worker.step():
        for at, job in enumerate(jobs):  # a second apart
            client.zadd("rq:failed:default", {job.id: 1_000_000_000 + at}, xx=True)

    assert [job.state for job in jobs] == [None, None, "dead", "dead", "dead"]
    assert set(places()) == {job.id for job in jobs[2:]}
    assert client.get(f"jobs:gone:{jobs[0].id}") == b"trimmed"
    assert not client.exists(f"rq:results:{jobs[0].id}")
    assert "dead jobs were too many" in caplog.text


def test_a_dead_job_dropped_in_the_second_of_its_death_leaves_no_partial_record(worker):
    worker.fetch._steps._dead_limit = 0
    job = TroubleOnce.defer()
    worker.run()

    assert job.state is None
    left = [key.decode() for key in get_connection("default").scan_iter(f"*{job.id}*")]
    assert left == [f"jobs:gone:{job.id}"]


def test_history_and_tracebacks_are_bounded(worker):
    job = Again.defer(times=3, pause=0)
    client = get_connection("default")
    client.hset(job.key, "history", "\n".join(['{"event": "requeued", "at": 1}'] * 99))
    worker.run()

    assert len(client.hget(job.key, "history").splitlines()) == 100
    assert len(job.results()) <= 10


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"attempts": null}', b"\xff"])
def test_progress_that_was_tampered_with_is_dead_with_the_reason_and_never_a_loop(text, worker):
    job = TroubleTwice.defer()
    get_connection("default").hset(job.key, mapping={"progress": text, "more": 1})
    worker.run()

    assert job.state == "dead"
    assert "progress" in job.reason


def test_a_context_that_was_tampered_with_is_dead_with_the_reason(worker):
    job = TroubleTwice.defer()
    get_connection("default").hset(job.key, mapping={"context": b'{"zone": 7}', "more": 1})
    worker.run()

    assert job.state == "dead"
    assert "Malformed context" in job.reason


def test_what_a_person_may_not_do_is_refused_with_the_state(worker):
    job = TroubleTwice.defer(times=0)
    worker.run()

    with pytest.raises(ChangeRefusedError, match=f"Job {job.id} cannot be retried: it is finished"):
        control.retry(job)
    with pytest.raises(ChangeRefusedError, match="cannot be cancelled"):
        job.cancel()
    control.delete(job)
    with pytest.raises(ChangeRefusedError, match="no record"):
        control.retry(job)
