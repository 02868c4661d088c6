"""`perform_enqueued_jobs` as a call and in a `with`, `travel`, and the errors of both."""

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.utils import timezone, translation

from jobs import Mandate, control, queues
from jobs.errors import NotInWorkerError, UnknownQueueError
from jobs.queues import get_queue
from tests.sample.commands.collapsing import Save, SaveAtOnce
from tests.sample.commands.limits import Guarded, Once, TellContext
from tests.sample.commands.notes import Fail, ShoutNote, WriteNote
from tests.sample.commands.original import MyCommand
from tests.sample.commands.scenes import CancelItself, DeferAgain, Descend, EndOther, Forever, MakeFolder, TellState
from tests.sample.commands.talk import Echo, NameJob
from tests.sample.commands.trouble import Again, Ruled, TroubleOnce, TroubleTwice
from tests.sample.models import Folder, Note

pytestmark = pytest.mark.django_db


def texts():
    return list(Note.objects.order_by("pk").values_list("text", flat=True))


# --- as a call: a snapshot -------------------------------------------------------------------


def test_a_call_performs_due_jobs_and_returns_their_number(jobs):
    now, later = MyCommand.defer("x"), MyCommand.defer("y", wait=60)

    assert jobs.perform_enqueued_jobs() == 1
    assert (now.state, later.state) == ("finished", "scheduled")
    assert jobs.perform_enqueued_jobs() == 0


def test_a_call_leaves_jobs_that_its_jobs_enqueue_for_the_next(jobs):
    Descend.defer(2)
    requeued = Again.defer(times=2, pause=0)

    assert jobs.perform_enqueued_jobs() == 2
    assert (texts(), requeued.state) == (["depth 2"], "queued")
    assert [event.name for event in requeued.history] == ["queued", "requeued"]  # as if it had not been started
    assert jobs.perform_enqueued_jobs() == 2
    assert jobs.perform_enqueued_jobs() == 2
    assert jobs.perform_enqueued_jobs() == 0
    assert (texts(), requeued.state) == (["depth 2", "depth 1", "depth 0"], "finished")
    assert jobs.enqueued_jobs != jobs.performed_jobs
    jobs.assert_enqueued_jobs(6)
    jobs.assert_performed_jobs(6)


def test_a_call_performs_jobs_that_waited_for_others_of_it(jobs):
    last = WriteNote.defer("x", wait=30)
    first = WriteNote.defer("1", queue="low")
    second = WriteNote.defer("2", prereq_jobs=[first], queue="critical")
    third = WriteNote.defer("3", prereq_jobs=[second, last])

    assert jobs.perform_enqueued_jobs() == 2
    assert (texts(), third.state) == (["1", "2"], "waiting")


def test_a_call_takes_queues_in_their_order_but_for_those_that_are_paused(jobs):
    for queue in ("low", "critical", "default", "mailers"):
        WriteNote.defer(queue, queue=queue)
    queues.pause("default")

    jobs.perform_enqueued_jobs()
    assert texts() == ["critical", "mailers", "low"]
    queues.resume("default")
    jobs.perform_enqueued_jobs()
    assert texts()[3:] == ["default"]


@pytest.mark.parametrize(
    ("filters", "performed"),
    [
        ({"only": MyCommand}, ["finished", "queued", "queued"]),
        ({"only": [MyCommand, Fail]}, ["finished", "dead", "queued"]),
        ({"exclude": MyCommand}, ["queued", "dead", "finished"]),
        ({"queue": "low"}, ["queued", "dead", "queued"]),
        ({"only": lambda recorded: recorded.args == ("x",)}, ["finished", "queued", "queued"]),
    ],
)
def test_filters_select_the_jobs_to_perform(filters, performed, jobs):
    def defer():
        return [MyCommand.defer("x"), Fail.defer(queue="low"), WriteNote.defer("w")]

    called = defer()
    jobs.perform_enqueued_jobs(**filters)
    with jobs.perform_enqueued_jobs(**filters):
        in_block = defer()

    assert [job.state for job in called] == [job.state for job in in_block] == performed


def test_filters_are_checked(jobs):
    with pytest.raises(UnknownQueueError):
        jobs.perform_enqueued_jobs(queue="mailer")
    with pytest.raises(ValueError, match="exclude each other"), jobs.perform_enqueued_jobs(only=Fail, exclude=Fail):
        pass


@pytest.mark.parametrize(("by", "state"), [("cancel", "cancelled"), ("delete", None)])
def test_a_job_that_another_has_ended_is_not_performed(by, state, jobs):
    other = MyCommand.defer(queue="low")
    EndOther.defer(other.id, by)

    assert jobs.perform_enqueued_jobs() == 1
    assert other.state == state


def test_a_job_that_cancels_itself_stays_cancelled(jobs):
    with jobs.perform_enqueued_jobs():
        job = CancelItself.defer()

    assert (job.state, job.return_value()) == ("cancelled", None)


# --- in a with: at once ----------------------------------------------------------------------


def test_a_block_performs_at_once(jobs):
    before = MyCommand.defer("before")
    with jobs.perform_enqueued_jobs():
        WriteNote.defer("x")
        assert texts() == ["x"]
        later = MyCommand.defer(wait=60)
    after = MyCommand.defer("after")

    assert [job.state for job in (before, later, after)] == ["queued", "scheduled", "queued"]
    assert jobs.perform_enqueued_jobs() == 2


def test_a_block_performs_jobs_that_its_jobs_enqueue_after_each(jobs):
    with jobs.perform_enqueued_jobs():
        Descend.defer(80)  # deeper than calls could nest

    assert texts() == [f"depth {depth}" for depth in range(80, -1, -1)]


def test_a_block_performs_requeues_at_once_and_dependents_when_they_are_released(jobs):
    with jobs.perform_enqueued_jobs():
        requeued = Again.defer(times=3, pause=0)
        first = WriteNote.defer("1", wait=60)
        second = WriteNote.defer("2", prereq_jobs=[first])
        assert (requeued.state, second.state) == ("finished", "waiting")
        assert jobs.travel(61) == 2

    assert second.state == "finished"


def test_arguments_and_results_go_through_json(jobs):
    note = Note.objects.create(text="x")
    with jobs.perform_enqueued_jobs():
        job = ShoutNote.defer(note)
        echoed = Echo.defer([(1, 2), note])

    assert note.text == "x"  # the job had its own
    assert job.return_value() == "X!"
    assert (echoed.return_value()[0], echoed.return_value()[1].text) == ((1, 2), "X!")


def test_a_command_sees_its_job(jobs):
    with jobs.perform_enqueued_jobs():
        named, state = NameJob.defer("x", queue="low"), TellState.defer()

    assert named.return_value() == [named.id, "low", "x"]
    assert state.return_value() == "running"


def test_a_command_that_is_run_enqueues_as_any_code_does(jobs):
    Descend.run(1)
    jobs.assert_enqueued_with(Descend, args=(0,))
    with jobs.perform_enqueued_jobs():
        Descend.run(1)

    assert texts() == ["depth 1", "depth 1", "depth 0"]
    with pytest.raises(NotInWorkerError):
        Forever.run()


def test_blocks_in_blocks_the_innermost_counts(jobs):
    with jobs.perform_enqueued_jobs(only=Fail):
        with jobs.perform_enqueued_jobs(only=MyCommand):
            inner = [MyCommand.defer(), Fail.defer()]
        outer = [MyCommand.defer(), Fail.defer()]

    assert [job.state for job in inner] == ["finished", "queued"]
    assert [job.state for job in outer] == ["queued", "dead"]


def test_a_call_in_a_block_performs_what_the_block_has_left(jobs):
    with jobs.perform_enqueued_jobs(only=Descend):
        left = MyCommand.defer()
        assert jobs.perform_enqueued_jobs() == 1
    assert left.state == "finished"


# --- time ------------------------------------------------------------------------------------


def test_a_time_that_has_passed_is_due_at_once(jobs):
    past = timezone.now() - timedelta(hours=1)
    job = MyCommand.defer(wait_until=past)
    assert job.state == "scheduled"  # until somebody looks, as in Redis
    with jobs.perform_enqueued_jobs():
        assert MyCommand.defer(wait_until=past).state == "finished"

    assert jobs.perform_enqueued_jobs() == 1


def test_at_moves_the_clock_of_a_call(jobs):
    job = MyCommand.defer(wait=timedelta(hours=1))
    assert jobs.perform_enqueued_jobs(at=timezone.now() + timedelta(minutes=59)) == 0
    assert jobs.perform_enqueued_jobs(at=timezone.now()) == 0  # time does not go back
    again = MyCommand.defer(wait=timedelta(minutes=2))

    assert jobs.perform_enqueued_jobs(at=timezone.now() + timedelta(minutes=60, seconds=30)) == 1
    assert (job.state, again.state) == ("finished", "scheduled")


def test_at_lets_a_block_perform_jobs_due_by_then(jobs):
    start = timezone.now()
    with jobs.perform_enqueued_jobs(at=start + timedelta(hours=1)):
        soon, late = MyCommand.defer(wait=timedelta(minutes=59)), MyCommand.defer(wait=7_200)
        assert (soon.state, late.state) == ("finished", "scheduled")
        assert jobs.now() == pytest.approx(start.timestamp() + 59 * 60, abs=5)


def test_at_lets_a_block_perform_retries_to_their_end(jobs):
    with jobs.perform_enqueued_jobs(at=timezone.now() + timedelta(minutes=10)):
        dead, requeued = TroubleTwice.defer(), Again.defer(times=3, pause=60)

    assert (dead.state, requeued.state) == ("dead", "finished")
    jobs.assert_performed_jobs(3, only=TroubleTwice)
    jobs.assert_performed_jobs(4, only=Again)


def test_at_lets_a_block_check_for_a_missing_record_to_the_end(jobs):
    note = Note.objects.create()
    job = Guarded.defer(note)
    note.delete()
    jobs.perform_enqueued_jobs()
    assert job.state == "scheduled"  # a replica may lag

    with jobs.perform_enqueued_jobs(at=timezone.now() + timedelta(minutes=1)):
        jobs.travel(1)
    assert job.state == "discarded"
    jobs.assert_enqueued_jobs(1)  # looking again is no push


@pytest.mark.parametrize("to", [61, 61.5, timedelta(minutes=2), "a time"])
def test_travel_performs_jobs_that_become_due(to, jobs):
    there, soon, late = MyCommand.defer(), MyCommand.defer(wait=60), MyCommand.defer(wait=600)
    after = MyCommand.defer(prereq_jobs=[soon])

    assert jobs.travel(timezone.now() + timedelta(minutes=2) if to == "a time" else to) == 2
    assert [job.state for job in (there, soon, late, after)] == ["queued", "finished", "scheduled", "finished"]


def test_travel_does_not_go_back(jobs):
    with pytest.raises(ValueError, match="time does not go back"):
        jobs.travel(-1)
    before = jobs.now()
    jobs.travel(timezone.now() - timedelta(hours=1))

    assert jobs.now() >= before


def test_times_without_a_zone_are_refused(jobs):
    naive = datetime(2030, 1, 1)
    for use in (lambda: jobs.travel(naive), lambda: jobs.perform_enqueued_jobs(at=naive)):
        with pytest.raises(ValueError, match="is naive"):
            use()


def test_only_jobs_see_the_clock(jobs):
    jobs.travel(datetime(2100, 1, 1, tzinfo=UTC))
    job = MyCommand.defer(wait=60)

    assert timezone.now().year < 2100
    jobs.assert_enqueued_with(MyCommand, at=datetime(2100, 1, 1, 0, 1, tzinfo=UTC))
    assert job.history[0].at.year == 2100


def test_jobs_come_due_by_a_clock_that_the_test_has_frozen(jobs, monkeypatch):
    noon = datetime(2030, 1, 1, 12, tzinfo=UTC)
    monkeypatch.setattr(time, "time", noon.timestamp)
    MyCommand.defer(wait=60)
    jobs.assert_enqueued_with(MyCommand, at=noon + timedelta(minutes=1))
    assert jobs.perform_enqueued_jobs() == 0

    monkeypatch.setattr(time, "time", (noon + timedelta(seconds=61)).timestamp)
    assert jobs.perform_enqueued_jobs() == 1


# --- work that does not end, and errors ------------------------------------------------------


def test_a_job_that_does_not_end_is_an_error_that_names_it(jobs):
    with (
        pytest.raises(RuntimeError, match=r"^sample\.Forever\(\) in default would be performed after 100 attempts"),
        jobs.perform_enqueued_jobs(),
    ):
        job = Forever.defer()
        assert job.state == "queued"  # the code under test does not see the error

    jobs.assert_performed_jobs(100, only=Forever)


def test_jobs_that_enqueue_one_another_without_end_are_an_error_too(jobs):
    with (
        pytest.raises(RuntimeError, match=r"^sample\.Descend\(900\) in default would be .* jobs that have enqueued it"),
        jobs.perform_enqueued_jobs(),
    ):
        Descend.defer(1_000)


def test_a_hundred_runs_are_no_error(jobs):
    with jobs.perform_enqueued_jobs():
        Descend.defer(99)
        for _ in range(101):
            MyCommand.defer()
    job = Forever.defer()
    for _ in range(101):
        assert jobs.perform_enqueued_jobs() == 1

    assert job.state == "queued"
    assert len(job.history) == 101  # of the special events the last 100


def test_failures_have_the_same_outcomes_as_in_a_worker(jobs):
    with jobs.perform_enqueued_jobs():
        dead, retrying = Fail.defer(), TroubleTwice.defer()

    assert (dead.state, retrying.state) == ("dead", "retrying")


def test_raise_errors_raises_the_first_failure_of_a_call(jobs):
    TroubleTwice.defer(), Fail.defer("another")

    with pytest.raises(AssertionError) as failed:
        jobs.perform_enqueued_jobs(raise_errors=True)
    lines = str(failed.value).splitlines()
    assert lines[0] == "sample.TroubleTwice() in default failed: RuntimeError: as planned"
    assert lines[1].startswith("Traceback")
    assert lines[-1] == "RuntimeError: as planned"
    assert jobs.perform_enqueued_jobs() == 1  # the call ended there


def test_raise_errors_raises_the_first_failure_of_a_block_at_its_end(jobs):
    with (
        pytest.raises(AssertionError, match=r"^sample\.Fail\('1'\) in low failed: RuntimeError: 1"),
        jobs.perform_enqueued_jobs(raise_errors=True),
    ):
        with suppress(Exception):  # as code under test may do
            Fail.defer("1", queue="low")
        last = TroubleOnce.defer()

    assert last.state == "dead"


def test_raise_errors_adds_a_failure_to_the_blocks_own_error(jobs):
    with pytest.raises(ZeroDivisionError) as error, jobs.perform_enqueued_jobs(raise_errors=True):
        Fail.defer("1")
        1 / 0  # noqa: B018

    assert error.value.__notes__[0].startswith("Before that: sample.Fail('1') in default failed: RuntimeError: 1")


def test_raise_errors_ignores_discards_and_requeues(jobs):
    with jobs.perform_enqueued_jobs(raise_errors=True):
        discarded, requeued = Ruled.defer("hopeless"), Again.defer()

    assert (discarded.state, requeued.state) == ("discarded", "scheduled")


def test_a_test_that_fails_in_a_block_leaves_nothing_behind(jobs):
    with pytest.raises(ZeroDivisionError), jobs.perform_enqueued_jobs():
        1 / 0  # noqa: B018

    assert MyCommand.defer().state == "queued"


# --- as in a worker's thread -----------------------------------------------------------------


@pytest.mark.parametrize("sql", ["", "no sql"])
def test_the_test_goes_on_after_a_job_that_failed_in_the_database(sql, jobs):
    Folder.objects.create(path="a")
    with jobs.perform_enqueued_jobs():
        good, bad, also_good = (MakeFolder.defer(path, sql=sql if path == "a" else "") for path in "bac")

    assert [job.state for job in (good, bad, also_good)] == ["finished", "discarded", "finished"]
    assert list(Folder.objects.values_list("path", flat=True)) == ["a", "b", "c"]


def test_a_job_has_nothing_of_the_tests_own_context(jobs):
    with translation.override("fr"), timezone.override("Asia/Tokyo"), Mandate.context(request_id="7f"):
        own = TellContext.defer()
    job = TellContext.defer()
    with translation.override("de"), timezone.override("Europe/Vienna"), Mandate.context(request_id="8"):
        jobs.perform_enqueued_jobs()
        assert translation.get_language() == "de"

    assert own.return_value() == ["fr", "Asia/Tokyo", "7f", None]
    assert job.return_value() == [translation.get_language(), "UTC", None, None]


def test_a_unique_job_that_a_person_runs_again_holds_its_place(jobs):
    job = Once.defer(7)
    control.cancel(job)
    other = Once.defer(7)
    jobs.perform_enqueued_jobs()
    assert (other.duplicate, other.state) == (False, "finished")

    control.retry(job)
    assert Once.defer(7).id == job.id
    jobs.assert_enqueued_jobs(3)  # the person's is one


# --- what else reads jobs --------------------------------------------------------------------


def test_the_packages_own_readers_work(jobs):
    job = MyCommand.defer("x", queue="low")
    queue = get_queue("low")

    assert (queue.job_ids, queue.count, len(queue)) == ([job.id], 1, 1)
    assert [each.command_args for each in queue.jobs] == [["x"]]
    assert queues.lengths()["low"] == 1
    assert job.description == "sample.MyCommand('x')"


def test_commands_that_need_a_server_are_refused(jobs):
    with pytest.raises(AttributeError, match=r"knows no '\w+'.* need a server: jobs.testing.run_worker\(\)"):
        get_queue("low").enqueue("tests.sample.functions.add", 1, 2)


def test_travel_stops_at_each_due_time(jobs):
    """A pause counts from the attempt before it, so all the attempts of an hour are made on the way."""
    start = jobs.now()
    job = Again.defer(times=3, pause=600)
    assert jobs.perform_enqueued_jobs() == 1

    assert jobs.travel(2_000) == 3
    assert job.state == "finished"
    times = [event.at.timestamp() - start for event in job.history if event.name == "requeued"]
    assert times == pytest.approx([0, 600, 1_200], abs=5)
    assert jobs.now() - start == pytest.approx(2_000, abs=5)


def test_a_dead_job_has_its_attempts(jobs):
    job = TroubleTwice.defer()
    jobs.perform_enqueued_jobs()
    jobs.travel(timedelta(days=60))
    assert job.progress.attempts == len(jobs.performed_jobs)


def test_travel_ends_at_its_target(jobs):
    job = MyCommand.defer(wait=61)
    assert jobs.travel(60) == 0
    assert job.state == "scheduled"
    assert jobs.travel(1) == 1


def test_a_job_that_defers_itself_to_a_time_that_is_past_does_not_keep_travel_from_its_end(jobs):
    """Only jobs see the kit's clock: from `timezone.now()` a command reckons times that are past for the kit."""
    jobs.travel(timedelta(days=2))
    DeferAgain.defer()
    jobs.perform_enqueued_jobs()

    assert jobs.travel(timedelta(days=1)) == 2  # at its start and at its end
    assert jobs.travel(0) == 1


@pytest.mark.parametrize("to", [3.0, "a time"])
def test_a_job_that_defers_itself_is_performed_at_each_of_its_times(to, jobs):
    """However long its attempts take: the clock stands still while they are made."""
    MyCommand.defer("first")
    start = jobs.now()
    job = Again.defer(times=3, pause=0.001)
    jobs.perform_enqueued_jobs()
    time.sleep(0.002)  # it is due before the clock is moved

    assert jobs.travel(datetime.fromtimestamp(start + 3, UTC) if to == "a time" else to) == 3
    assert job.state == "finished"
    assert jobs.now() - start == pytest.approx(3, abs=2)


def test_performing_counts_the_queries_of_the_jobs_alone(jobs, django_assert_num_queries, monkeypatch):
    """On PostgreSQL the kit keeps the test's transaction usable by a savepoint of its own."""
    Echo.defer("x")
    with monkeypatch.context() as patch, django_assert_num_queries(0):
        patch.setattr(connection, "vendor", "postgresql")
        jobs.perform_enqueued_jobs()
    Echo.defer("x")
    with django_assert_num_queries(0):
        jobs.perform_enqueued_jobs()
    WriteNote.defer("x")
    with django_assert_num_queries(1):
        jobs.perform_enqueued_jobs()


# --- jobs that collapse ----------------------------------------------------------------------


def test_jobs_that_collapse_are_one_push_with_the_last_arguments(jobs):
    first, second = Save.defer(7, "a"), Save.defer(7, "b")

    assert second.id == first.id
    jobs.assert_enqueued_jobs(1)
    jobs.assert_enqueued_with(Save, args=(7, "b"), at=timezone.now() + timedelta(seconds=60))
    with jobs.assert_no_enqueued_jobs():
        Save.defer(7, "c")
    assert (jobs.travel(59), jobs.travel(2), texts()) == (0, 1, ["c"])


def test_each_push_moves_the_job_on_the_clock_of_the_test_until_at_most(jobs):
    Save.defer(7, "0")
    for number in range(1, 20):
        jobs.travel(50)
        Save.defer(7, str(number))
    jobs.travel(600)

    assert texts() == ["11", "19"]  # the first job ran 600 s after its first push, the second began after that


def test_without_a_wait_jobs_collapse_while_one_is_queued(jobs):
    first = SaveAtOnce.defer(7, "a")
    assert SaveAtOnce.defer(7, "b").id == first.id
    assert (jobs.perform_enqueued_jobs(), texts()) == (1, ["b"])
    assert SaveAtOnce.defer(7, "c").id != first.id
