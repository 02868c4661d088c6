"""
Scenarios of jobs, each run twice: with the testing kit, and with a real worker process on a real server. The results
must be the same.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise

import pytest
from django.db import transaction
from django.utils import timezone, translation

from jobs import MandateJob, control, queues
from jobs.errors import ChangeRefusedError, PrerequisiteError
from jobs.record import registry
from tests.jobs.testing.backends import Backend, KitBackend, ServerBackend
from tests.processes import WorkerProcess
from tests.sample.commands.collapsing import Save, SaveFirst
from tests.sample.commands.groups import InGroup, InTaskGroup, RequeueOnFlaky
from tests.sample.commands.limits import DeferWithContext, Fresh, Guarded, Once, TellContext, Unguarded
from tests.sample.commands.long import Exit
from tests.sample.commands.notes import Fail, ShoutNote, WriteNote, WriteNoteSlowly
from tests.sample.commands.scenes import CancelItself, Descend, EndOther, Hooked, TellState
from tests.sample.commands.talk import Echo, EchoType, Talk, TalkKept
from tests.sample.commands.trouble import (
    Again,
    AsyncHooks,
    BadHooks,
    ReturnUnrun,
    Ruled,
    Trouble,
    TroubleOnce,
    TroubleTwice,
)
from tests.sample.models import Note

Scenario = Callable[[Backend], None]
DATABASES = ["default", "other"]
scenarios: list[Scenario] = []


def scenario(function: Scenario) -> Scenario:
    scenarios.append(function)
    return function


@pytest.fixture(scope="module")
def running_worker(
    valkey_server, django_db_setup, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[WorkerProcess, bytes]]:
    worker = WorkerProcess(log=tmp_path_factory.mktemp("worker") / "log", concurrency=1)
    try:
        with valkey_server.client() as client:
            (name,) = client.zrange("jobs:workers", 0, -1)
        yield worker, name
    finally:
        worker.stop()


@pytest.fixture
def backend(request) -> Iterator[Backend]:
    if request.param == "kit":
        committing = request.getfixturevalue("django_capture_on_commit_callbacks")
        yield KitBackend(request.getfixturevalue("jobs"), committing)
    else:
        worker, name = request.getfixturevalue("running_worker")
        assert worker.process.poll() is None
        with request.getfixturevalue("valkey").client() as client:
            server = ServerBackend(client, name)
            yield server
            server.perform()  # or the worker writes what is left into the next test's database


@pytest.mark.parametrize("scenario", scenarios, ids=lambda scenario: scenario.__name__)
@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("kit", marks=pytest.mark.django_db(databases=DATABASES)),
        pytest.param(
            "server", marks=[pytest.mark.django_db(transaction=True, databases=DATABASES), pytest.mark.processes]
        ),
    ],
    indirect=True,
)
@pytest.mark.usefixtures("own_commands")
def test_the_same_comes_out(scenario: Scenario, backend: Backend) -> None:
    scenario(backend)


def names(job: MandateJob) -> list[str]:
    return [event.name for event in job.history]


def due_in(job: MandateJob, backend: Backend) -> float:
    """Seconds until a scheduled job is due."""
    score = job.connection.zscore(f"rq:scheduled:{job.origin}", job.id)
    assert score is not None, job.state
    return score - backend.now()


def texts() -> list[str]:
    return list(Note.objects.order_by("pk").values_list("text", flat=True))


# --- a job that goes well --------------------------------------------------------------------


@scenario
def a_job_finishes_and_its_result_is_kept(backend):
    job = WriteNote.defer("x")
    backend.perform()

    assert job.state == "finished"
    assert job.return_value() == Note.objects.get().pk
    assert (job.reason, names(job)) == (None, ["queued", "started", "finished"])
    assert job.progress.attempts == 0


@scenario
def a_result_comes_back_as_it_was_returned(backend):
    value = {"when": timezone.now(), "sizes": (1, 2), 7: {"a"}}
    job, odd = Echo.defer(value), EchoType.defer()
    backend.perform()

    assert job.return_value() == value
    assert odd.return_value() == "<object>"


@scenario
def a_result_is_kept_for_its_time(backend):
    job = Echo.defer("x")
    backend.perform()
    backend.travel(400)
    assert job.state == "finished"
    backend.travel(101)
    assert job.state is None


@scenario
def an_async_command_is_forgotten_at_once_where_it_says_so(backend):
    job = WriteNoteSlowly.defer("x")
    backend.perform()

    assert (job.state, texts()) == (None, ["x"])


@scenario
def a_job_goes_to_the_queue_it_was_given(backend):
    jobs = [WriteNote.defer("1"), WriteNote.defer("2", queue="low"), WriteNote.using(queue="critical").defer("3")]
    backend.perform()

    assert [job.origin for job in jobs] == ["default", "low", "critical"]
    assert [job.state for job in jobs] == ["finished"] * 3


@scenario
def a_record_is_fetched_when_the_job_runs(backend):
    note = Note.objects.create(text="before")
    job = ShoutNote.defer(note, times=2, wait=60)
    Note.objects.update(text="after")
    backend.travel(61)

    assert (job.return_value(), texts()) == ("AFTER!!", ["AFTER!!"])


@scenario
def a_running_job_knows_that_it_is_running(backend):
    job = TellState.defer()
    backend.perform()

    assert job.return_value() == "running"


@scenario
def what_a_command_logs_is_kept_where_it_says_so(backend):
    kept, dropped, dead = TalkKept.defer(2), Talk.defer(2), Talk.defer(1, fail=True)
    backend.perform()

    assert [line.rpartition(": ")[2] for line in kept.call_log.splitlines()] == ["line 0", "line 1"]
    assert dropped.call_log == ""
    assert dead.call_log.endswith("talk: line 0")


@scenario
def jobs_that_a_job_defers_are_run_too(backend):
    job = Descend.defer(2)
    backend.perform()

    assert texts() == ["depth 2", "depth 1", "depth 0"]
    child = MandateJob.fetch(job.return_value(), connection=job.connection)
    assert (child.state, child.command_args) == ("finished", [1])


# --- time ------------------------------------------------------------------------------------


@scenario
def a_wait_is_waited_for(backend):
    job = WriteNote.defer("x", wait=timedelta(minutes=5))
    backend.perform()
    assert job.state == "scheduled"
    assert 280 < due_in(job, backend) <= 300

    backend.travel(290)
    assert job.state == "scheduled"
    backend.travel(11)
    assert (job.state, names(job)) == ("finished", ["queued", "started", "finished"])


@scenario
def a_time_that_has_passed_is_due_at_once(backend):
    job = WriteNote.defer("x", wait_until=timezone.now() - timedelta(hours=1))
    backend.perform()

    assert job.state == "finished"


@scenario
def many_jobs_are_deferred_in_order(backend):
    jobs = WriteNote.defer_many([("1",), {"text": "2"}, ("3",)], queue="background")
    backend.perform()

    assert texts() == ["1", "2", "3"]
    assert [job.return_value() for job in jobs] == list(Note.objects.order_by("pk").values_list("pk", flat=True))


@scenario
def many_jobs_are_spread_over_a_time(backend):
    jobs = WriteNote.defer_many([("1",), ("2",), ("3",), ("4",)], wait=60, spread=400)
    dues = [due_in(job, backend) for job in jobs]
    assert 50 < dues[0] <= 60
    assert all(99 < after - before < 101 for before, after in pairwise(dues))

    backend.travel(170)
    assert [job.state for job in jobs] == ["finished", "finished", "scheduled", "scheduled"]


@scenario
def a_job_that_was_not_begun_in_time_is_discarded(backend):
    job = Fresh.defer(wait=10)
    backend.travel(100)

    assert (job.state, names(job)) == ("discarded", ["queued", "started", "expired"])
    assert job.reason.startswith("expired: not begun by ")
    assert texts() == []


@scenario
def a_job_that_was_begun_in_time_may_be_requeued_past_it(backend):
    job = Fresh.defer(wait=10)
    backend.travel(60)

    assert (job.state, job.return_value(), texts()) == ("finished", "in time", ["begun", "begun"])


# --- failures --------------------------------------------------------------------------------


@scenario
def a_failure_is_retried_along_the_curve(backend):
    job = TroubleTwice.defer(times=1)
    backend.perform()
    assert (job.state, job.reason) == ("retrying", "RuntimeError: as planned")
    assert 10 < due_in(job, backend) <= 25

    backend.travel(26)
    assert (job.state, job.return_value(), job.progress.attempts) == ("finished", "through", 1)
    assert names(job) == ["queued", "failed", "retried", "started", "finished"]


@scenario
def retries_are_used_up(backend):
    job = TroubleTwice.defer()
    for _ in range(3):
        backend.travel(40)

    assert (job.state, job.reason) == ("dead", "RuntimeError: as planned")
    assert len(texts()) == 3
    assert [name for name in names(job) if name != "started"] == ["queued", *["failed", "retried"] * 2, "failed"]
    assert ["as planned" in result.exc_string for result in job.results()] == [True] * 3


@scenario
def a_command_without_retries_is_dead_at_once(backend):
    job, exits = Fail.defer("no luck"), Exit.defer()
    backend.perform()

    assert (job.state, job.reason, job.progress.attempts) == ("dead", "RuntimeError: no luck", 1)
    assert names(job) == ["queued", "started", "failed"]
    assert (exits.state, exits.reason) == ("dead", "SystemExit: a command must not end the worker")


@scenario
def a_rule_says_when_to_retry_and_how_often(backend):
    job, callable_ = Ruled.defer("flaky"), Ruled.defer("very flaky")
    backend.perform()
    assert 5 < due_in(job, backend) <= 10
    assert 90 < due_in(callable_, backend) <= 100

    backend.travel(11)
    assert job.state == "retrying"
    backend.travel(11)
    assert (job.state, job.reason) == ("dead", "FlakyError: as planned")  # 3 attempts, the first one counted
    assert callable_.state == "retrying"


@scenario
def a_database_lock_that_was_not_had_is_tried_again_soon(backend):
    job = Trouble.defer("locked", times=1)
    backend.perform()
    assert 0 < due_in(job, backend) <= 3.5

    backend.travel(4)
    assert job.state == "finished"


@scenario
def a_rule_drops_the_job(backend):
    job = Ruled.defer("hopeless")
    backend.perform()

    assert (job.state, job.reason) == ("discarded", "HopelessError: as planned")
    assert names(job) == ["queued", "started", "discarded"]


@scenario
def hooks_are_called(backend):
    Hooked.defer("ConnectionError"), Hooked.defer("ValueError")
    backend.perform()
    backend.travel(11)

    assert texts() == [
        "retry after attempt 1 in 10 s: as planned",
        "discarded: ValueError: as planned",
        "dead: as planned",
    ]


@scenario
def hooks_that_raise_change_nothing(backend):
    retried, dropped = BadHooks.defer("flaky", times=1), BadHooks.defer("hopeless")
    backend.perform()
    backend.travel(11)

    assert (retried.state, dropped.state) == ("finished", "discarded")


@scenario
def an_unknown_command_is_looked_for_during_a_day(backend):
    vanished = type("Vanished", (WriteNote,), {"__module__": WriteNote.__module__})
    job = vanished.defer("x")
    registry.all_commands()
    del registry._commands["sample.Vanished"]

    backend.perform()
    assert (job.state, job.reason) == ("retrying", "unknown command")
    assert 5 < due_in(job, backend) <= 15
    backend.travel(16)
    assert job.state == "retrying"
    backend.travel(86_400)
    assert (job.state, job.reason[:16]) == ("dead", "unknown command:")


# --- requeues --------------------------------------------------------------------------------


@scenario
def a_command_asks_to_be_run_again_later(backend):
    job = Again.defer(pause=30)
    backend.perform()
    assert (job.state, job.progress.requeues, job.reason) == ("scheduled", 1, None)
    assert 20 < due_in(job, backend) <= 30

    backend.travel(31)
    assert (job.state, job.return_value(), texts()) == ("finished", "through", [])
    assert names(job) == ["queued", "requeued", "started", "finished"]


@scenario
def a_command_asks_to_be_run_again_at_once(backend):
    job = Again.defer(times=3, pause=0)
    backend.perform()

    assert (job.state, job.progress.requeues) == ("finished", 3)


@scenario
def a_command_asks_too_often(backend):
    job = Again.defer(times=9, pause=0)
    backend.perform()

    assert (job.state, job.reason) == ("dead", "requeued more than its 3 times")


# --- prerequisites ---------------------------------------------------------------------------


@scenario
def a_job_waits_for_all_of_its_prerequisites(backend):
    first, second = WriteNote.defer("1", wait=30, queue="low"), WriteNote.defer("2", wait=60)
    job = WriteNote.defer("3", prereq_jobs=[first, second.id], queue="critical")
    backend.perform()
    assert (job.state, job.prerequisites, first.dependents) == ("waiting", [first.id, second.id], {job.id})

    backend.travel(31)
    assert (first.state, job.state) == ("finished", "waiting")
    backend.travel(30)
    assert (job.state, texts()) == ("finished", ["1", "2", "3"])
    assert names(job) == ["queued", "started", "finished"]


@scenario
def a_chain_of_three_runs_in_order(backend):
    with transaction.atomic():
        first = WriteNote.defer("1", queue="low")
        second = WriteNote.defer("2", prereq_jobs=[first])
        third = WriteNote.defer("3", prereq_jobs=[second], queue="critical")
    backend.perform()

    assert (third.state, texts()) == ("finished", ["1", "2", "3"])


@scenario
def a_job_may_have_more_prerequisites_than_are_linked_in_one_call(backend):
    first = WriteNote.defer("1", wait=30)
    job = WriteNote.defer("2", prereq_jobs=[first, *(f"never-heard-of-{number}" for number in range(150))])
    backend.perform()
    assert (job.state, first.dependents) == ("waiting", {job.id})

    backend.travel(31)
    assert (job.state, texts()) == ("finished", ["1", "2"])


@scenario
def a_prerequisite_that_is_done_holds_nobody(backend):
    kept, forgotten = WriteNote.defer("1"), WriteNoteSlowly.defer("2")
    backend.perform()
    job = WriteNote.defer("3", prereq_jobs=[kept, forgotten, "never-heard-of"])
    backend.perform()

    assert job.state == "finished"


@scenario
def a_requeued_or_retrying_prerequisite_holds_on(backend):
    again, trouble = Again.defer(pause=30), TroubleTwice.defer(times=1)
    jobs = [WriteNote.defer("after", prereq_jobs=[first]) for first in (again, trouble)]
    backend.perform()
    assert [job.state for job in jobs] == ["waiting", "waiting"]

    backend.travel(31)
    assert [job.state for job in jobs] == ["finished", "finished"]


@scenario
def a_dead_prerequisite_blocks_until_somebody_decides(backend):
    first = Fail.defer()
    jobs = [WriteNote.defer(text, prereq_jobs=[first]) for text in ("run anyway", "drop", "stay")]
    backend.perform()
    assert [job.state for job in jobs] == ["blocked"] * 3

    control.run_now(jobs[0])
    control.cancel(jobs[1])
    backend.perform()
    assert [job.state for job in jobs] == ["finished", "cancelled", "blocked"]
    assert names(jobs[0]) == ["queued", "revived", "started", "finished"]
    assert texts() == ["run anyway"]


@scenario
def any_end_will_do_where_that_was_said(backend):
    firsts = [Fail.defer(), Ruled.defer("hopeless"), WriteNote.defer("x", wait=60), WriteNote.defer("y", wait=60)]
    jobs = [WriteNote.defer("after", prereq_jobs=[first], prereq_failure="run") for first in firsts]
    control.cancel(firsts[2])
    control.delete(firsts[3])
    backend.perform()

    assert [first.state for first in firsts] == ["dead", "discarded", "cancelled", None]
    assert [job.state for job in jobs] == ["finished"] * 4


@scenario
def a_waiting_job_waits_for_what_is_left_of_its_wait(backend):
    first = WriteNote.defer("1", wait=30)
    job = WriteNote.defer("2", wait=90, prereq_jobs=[first])
    backend.travel(31)
    assert (first.state, job.state) == ("finished", "scheduled")
    assert 50 < due_in(job, backend) <= 60

    backend.travel(60)
    assert job.state == "finished"


@scenario
def a_scheduled_job_gets_another_time_and_its_deadline_goes_with_it(backend):
    job = Fresh.defer(wait=600)
    control.reschedule(job, timezone.now() + timedelta(seconds=1_000))
    assert 990 < due_in(job, backend) <= 1_000
    assert names(job) == ["queued", "rescheduled"]
    backend.travel(1_001)
    assert job.state == "finished"
    with pytest.raises(ChangeRefusedError, match=f"Job {job.id} cannot be rescheduled: it is finished"):
        control.reschedule(job, timezone.now())
    with pytest.raises(ValueError, match="has no time zone"):
        control.reschedule(job, timezone.now().replace(tzinfo=None))


@scenario
def a_copy_does_the_same_once_more(backend):
    long = "x" * 2_000
    job = WriteNote.defer(long)
    backend.perform()
    again = queues.copy(job)
    backend.perform()
    assert (again.id != job.id, again.state) == (True, "finished")
    assert texts() == [long, long]
    control.delete(job)
    with pytest.raises(ChangeRefusedError, match=f"Job {job.id} cannot be copied"):
        queues.copy(job)


@scenario
def a_copy_of_a_unique_job_that_is_not_done_is_that_job(backend):
    job = Once.defer(1, wait=60)
    assert queues.copy(job).id == job.id
    backend.travel(61)
    again = queues.copy(job)
    backend.perform()
    assert (again.id != job.id, again.state) == (True, "finished")


# --- records that are gone -------------------------------------------------------------------


@scenario
def a_job_whose_record_is_gone_is_discarded(backend):
    note = Note.objects.create()
    job = Guarded.defer(note, wait=60)
    key = note.pk
    note.delete()
    backend.travel(61)
    assert (job.state, f"sample.Note:{key}" in job.reason) == ("scheduled", True)  # replicas may lag

    backend.travel(6)
    assert (job.state, f"sample.Note:{key}" in job.reason) == ("discarded", True)
    assert names(job) == ["queued", "started", "discarded"]


@scenario
def a_record_that_comes_late_is_found(backend):
    note = Note.objects.create(text="x")
    job = Guarded.defer(note, wait=60)
    key = note.pk
    note.delete()
    backend.travel(61)
    Note.objects.create(pk=key, text="late")
    backend.travel(1)

    assert (job.state, job.return_value()) == ("finished", "late")


@scenario
def without_the_guard_a_missing_record_is_a_failure(backend):
    note = Note.objects.create()
    job = Unguarded.defer(note, wait=60)
    note.delete()
    for seconds in (61, 6):
        backend.travel(seconds)
    assert (job.state, job.reason[:19]) == ("retrying", "MissingRecordError:")

    for seconds in (40, 6):
        backend.travel(seconds)
    assert (job.state, job.reason[:19]) == ("dead", "MissingRecordError:")


# --- unique jobs -----------------------------------------------------------------------------


@scenario
def a_unique_job_is_there_once(backend):
    first, second, other = Once.defer(7, wait=60), Once.defer(number=7), Once.defer(8, wait=60)
    assert (second.id, second.duplicate, first.duplicate) == (first.id, True, False)
    assert (other.id != first.id, other.duplicate) == (True, False)

    backend.travel(61)
    assert (second.state, second.return_value()) == ("finished", 7)


@scenario
def a_unique_job_that_has_ended_makes_room(backend):
    first, dead = Once.defer(7), Once.defer(8, fails=True)
    backend.perform()
    second = Once.defer(7)
    in_its_place = Once.defer(8, fails=True, wait=60)

    assert not second.duplicate and second.id != first.id
    assert (dead.state, in_its_place.duplicate) == ("dead", False)
    with pytest.raises(ChangeRefusedError, match=in_its_place.id):
        control.retry(dead)


@scenario
def a_unique_jobs_lock_ends_with_its_time(backend):
    first = Once.defer(7, wait=7_200)
    backend.travel(3_500)
    assert Once.defer(7).duplicate
    backend.travel(101)

    assert not Once.defer(7).duplicate
    assert first.state == "scheduled"


# --- jobs that collapse ----------------------------------------------------------------------


@scenario
def jobs_of_a_key_collapse_until_one_begins(backend):
    first, second, other = Save.defer(7, "a"), Save.defer(7, "b"), Save.defer(8, "c")
    assert (second.id, second.duplicate, other.duplicate) == (first.id, True, False)
    backend.travel(61)
    third = Save.defer(7, "d")

    assert sorted(texts()) == ["b", "c"]
    assert (first.state, third.duplicate) == ("finished", False)
    assert names(first) == ["queued", "collapsed", "started", "finished"]


@scenario
def a_job_that_is_retried_takes_no_further_arguments(backend):
    first = Save.defer(7, "a", fails=True)
    backend.travel(61)
    second = Save.defer(7, "b")

    assert (first.state, second.duplicate) == ("retrying", False)
    assert Save.defer(7, "c").id == second.id


@scenario
def with_keep_first_the_first_arguments_stay(backend):
    SaveFirst.defer(7, "a")
    SaveFirst.defer(7, "b")
    backend.travel(61)
    assert texts() == ["a"]


# --- transactions ----------------------------------------------------------------------------


@scenario
def a_job_is_written_when_the_transaction_commits(backend):
    with transaction.atomic():
        job = WriteNote.defer("x")
        with transaction.atomic():
            inner = WriteNote.defer("y", wait=60)
        backend.perform()
        assert (job.state, inner.state, texts()) == (None, None, [])
    backend.perform()

    assert (job.state, inner.state) == ("finished", "scheduled")


@scenario
def a_rollback_drops_its_jobs(backend):
    jobs = []
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        jobs += [WriteNote.defer("x"), *WriteNote.defer_many([("y",)]), WriteNote.defer("z", wait=1)]
        1 / 0  # noqa: B018
    backend.travel(2)

    assert [job.state for job in jobs] == [None] * 3
    assert [job.is_written for job in jobs] == [False] * 3
    assert texts() == []


@scenario
def a_savepoints_rollback_drops_its_jobs_alone(backend):
    with transaction.atomic():
        first = WriteNote.defer("1")
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            dropped = WriteNote.defer("2")
            1 / 0  # noqa: B018
        last = WriteNote.defer("3")
    backend.perform()

    assert [job.state for job in (first, dropped, last)] == ["finished", None, "finished"]
    assert texts() == ["1", "3"]


@scenario
def a_rollback_without_a_savepoint_drops_all(backend):
    with pytest.raises(ZeroDivisionError), transaction.atomic():  # its own savepoint, for the kit's test transaction
        first = WriteNote.defer("1")
        with transaction.atomic(savepoint=False):
            second = WriteNote.defer("2")
            1 / 0  # noqa: B018
    backend.perform()

    assert (first.state, second.state) == (None, None)


@scenario
def transactions_on_two_databases_are_waited_for(backend):
    with transaction.atomic(using="other"):
        with transaction.atomic():
            both = WriteNote.defer("x")
        backend.perform()
        assert both.state is None
    backend.perform()
    assert both.state == "finished"

    with pytest.raises(ZeroDivisionError), transaction.atomic(using="other"):
        with transaction.atomic():
            dropped = WriteNote.defer("y")
        1 / 0  # noqa: B018
    backend.perform()
    assert dropped.state is None


@scenario
def jobs_of_one_transaction_may_be_each_others_prerequisites(backend):
    with transaction.atomic():
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            dropped = WriteNote.defer("0")
            1 / 0  # noqa: B018
        first = WriteNote.defer("1", wait=60)
        job, blocked = (WriteNote.defer("2", prereq_jobs=[each]) for each in (first, dropped))
    assert (job.state, blocked.state) == ("waiting", "blocked")
    backend.travel(61)

    assert (job.state, blocked.state) == ("finished", "blocked")


@scenario
def callbacks_of_a_commit_may_defer(backend):
    order = []
    with backend.committing():
        with transaction.atomic():
            WriteNote.defer("1")
            transaction.on_commit(lambda: order.append(WriteNote.defer("2")))
            transaction.on_commit(lambda: order.append("callback"))
        backend.perform()
    backend.perform()

    assert (order[0].state, order[1]) == ("finished", "callback")
    assert texts() == ["1", "2"]


# --- what travels with a job -----------------------------------------------------------------


@scenario
def language_zone_and_values_travel_with_a_job(backend):
    note = Note.objects.create(text="a note")
    with translation.override("de"), timezone.override("Asia/Tokyo"), TellContext.context(request_id="7f", note=note):
        job, parent = TellContext.defer(), DeferWithContext.defer()
    plain = TellContext.defer()
    backend.perform()

    assert job.return_value() == ["de", "Asia/Tokyo", "7f", "a note"]
    child = MandateJob.fetch(parent.return_value(), connection=parent.connection)
    assert child.return_value() == job.return_value()
    assert plain.return_value() == [translation.get_language(), "UTC", None, None]


# --- errors in groups ------------------------------------------------------------------------


@scenario
def a_requeue_in_a_task_group_is_one(backend):
    jobs = [
        InTaskGroup.defer(["requeue 30"]),
        InTaskGroup.defer(["requeue 30"], is_nested=True),
        InTaskGroup.defer(["requeue 30", "requeue 60", "cancelled"]),
        RequeueOnFlaky.defer(),
    ]
    backend.perform()

    for job in jobs:
        assert (job.state, job.reason) == ("scheduled", None)
        assert (job.progress.requeues, job.progress.failures) == (1, {})
        assert 25 <= due_in(job, backend) <= 30
    backend.travel(31)
    assert [job.return_value() for job in [jobs[0], jobs[1], jobs[3]]] == ["through"] * 3
    assert [names(job).count("failed") for job in jobs] == [0, 0, 0, 0]


@scenario
def a_requeue_beside_an_error_is_none(backend):
    job = InTaskGroup.defer(["requeue 30", "broken"])
    backend.perform()

    assert (job.state, job.progress.requeues, job.progress.failures) == ("retrying", 0, {"": 1})
    assert job.reason == (
        "BaseExceptionGroup: unhandled errors in a TaskGroup (2): RequeueRequested: requeue after 30 s; "
        "RuntimeError: as planned"
    )


@scenario
def rules_look_into_groups(backend):
    flaky = InTaskGroup.defer(["broken", "flaky"], is_nested=True)
    hopeless, mixed = InTaskGroup.defer(["hopeless", "hopeless"]), InTaskGroup.defer(["hopeless", "broken"])
    locked = InGroup.defer(["broken", "locked"])
    backend.perform()

    assert flaky.state == "retrying"
    assert 5 <= due_in(flaky, backend) <= 10
    assert hopeless.state == "discarded"
    assert hopeless.reason == (
        "ExceptionGroup: unhandled errors in a TaskGroup (2): HopelessError: as planned; HopelessError: as planned"
    )
    assert (mixed.state, mixed.progress.failures) == ("retrying", {"": 1})
    assert locked.state == "retrying"
    assert due_in(locked, backend) <= 3.5
    backend.travel(11)
    assert list(flaky.progress.failures.values()) == [2]
    backend.travel(11)
    assert flaky.state == "dead"


@scenario
def an_interruption_in_a_group_is_one(backend):
    stopped, late = InGroup.defer(["flaky", "stopped"]), InGroup.defer(["broken", "timed out"])
    backend.perform()

    assert (stopped.state, stopped.reason) == ("dead", "stopped on request")
    assert (late.state, late.reason) == ("retrying", "TimedOut: The attempt took longer than its 180 seconds.")
    assert "RuntimeError: as planned" in late.results()[0].exc_string


# --- what has not run ------------------------------------------------------------------------


@scenario
def a_call_that_returns_a_generator_has_failed(backend):
    job = ReturnUnrun.defer()
    backend.perform()

    assert job.state == "dead"
    assert job.reason.startswith("TypeError: ReturnUnrun.call returned a generator, so its body has not run")
    assert texts() == []


@scenario
def async_hooks_are_run_to_their_end(backend):
    AsyncHooks.defer("hopeless")
    backend.perform()

    assert texts()[-1] == "discard: HopelessError: as planned"


# --- what a person does ----------------------------------------------------------------------


@scenario
def a_cancelled_job_is_not_run(backend):
    scheduled = WriteNote.defer("1", wait=60)
    waiting = WriteNote.defer("2", prereq_jobs=[scheduled])
    last = WriteNote.defer("3", prereq_jobs=[waiting])
    control.cancel(waiting, "not wanted")
    scheduled.cancel()
    backend.travel(61)

    assert (scheduled.state, scheduled.reason) == ("cancelled", "cancelled")
    assert (waiting.state, waiting.reason, names(waiting)) == ("cancelled", "not wanted", ["queued", "cancelled"])
    assert (last.state, texts()) == ("blocked", [])
    with pytest.raises(PrerequisiteError, match="it was cancelled"):
        WriteNote.defer("4", prereq_jobs=[scheduled])
    with pytest.raises(ChangeRefusedError):
        control.cancel(waiting)


@scenario
def many_jobs_are_changed_at_once_each_by_itself(backend):
    first, second = WriteNote.defer("1", wait=60), WriteNote.defer("2", wait=60)
    done = WriteNote.defer("3")
    backend.perform()

    refused = control.change_all("cancel", [first, done, second, first])
    assert [bool(why) for why in refused] == [False, True, False, False]
    assert str(refused[1]) == f"Job {done.id} cannot be cancelled: it is finished."
    assert (first.state, done.state, second.state) == ("cancelled", "finished", "cancelled")
    backend.travel(61)
    assert texts() == ["3"]


@scenario
def a_job_is_cancelled_by_another_or_by_itself_while_it_runs(backend):
    other = WriteNote.defer("x", wait=60)
    job, itself = EndOther.defer(other.id), CancelItself.defer()
    backend.perform()

    assert (job.state, other.state) == ("finished", "cancelled")
    assert (itself.state, itself.reason, itself.return_value()) == ("cancelled", "cancelled", None)


@scenario
def a_deleted_job_leaves_no_record(backend):
    job = WriteNote.defer("x", wait=60)
    job.delete()
    backend.travel(61)

    assert (job.state, texts()) == (None, [])
    with pytest.raises(PrerequisiteError, match="it was deleted"):
        WriteNote.defer("y", prereq_jobs=[job])
    backend.travel(86_400)
    assert WriteNote.defer("z", prereq_jobs=[job]).id
    with pytest.raises(ChangeRefusedError):
        control.delete(job)


@scenario
def a_dead_job_is_retried_by_a_person(backend):
    job = TroubleOnce.defer(times=1)
    after = WriteNote.defer("after", prereq_jobs=[job])
    backend.perform()
    assert (job.state, after.state) == ("dead", "blocked")

    control.retry(job)
    backend.perform()
    assert (job.state, job.return_value(), job.reason, after.state) == ("finished", "through", None, "finished")
    assert names(job) == ["queued", "failed", "revived", "started", "finished"]


@scenario
def a_retrying_or_scheduled_job_is_run_at_once(backend):
    retrying, scheduled = TroubleTwice.defer(times=2), WriteNote.defer("x", wait=60)
    backend.perform()
    control.retry(retrying)
    control.run_now(scheduled)
    backend.perform()

    assert (scheduled.state, retrying.state) == ("finished", "retrying")
    assert retrying.progress.attempts == 1  # a fresh budget


def test_there_are_enough_of_them() -> None:
    assert len(scenarios) >= 30
