"""Each assertion: one use that passes and one that fails, as a call and in a `with`, with the text of the failure."""

from contextlib import contextmanager
from dataclasses import field
from datetime import UTC, datetime, timedelta

import pytest
from django.test import override_settings
from django.utils import timezone

from jobs import Mandate, MandateJob
from jobs.errors import CommandDefinitionError, UnknownQueueError
from jobs.testing import within
from tests.sample.commands.notes import Fail, KeepSecret, ShoutNote, WriteNote, WriteNoteSlowly
from tests.sample.commands.original import MyCommand, ProcessSubmission
from tests.sample.models import Note

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@contextmanager
def failing(*lines):
    """Assert that the block fails with a text of these lines."""
    with pytest.raises(AssertionError) as failed:
        yield
    assert str(failed.value).splitlines() == list(lines)


# --- assert_enqueued_with --------------------------------------------------------------------


def test_enqueued_with_as_a_call_returns_the_job(jobs):
    ProcessSubmission.defer(1)
    job = ProcessSubmission.defer(2, queue="low")

    found = jobs.assert_enqueued_with(ProcessSubmission, args=(2,), queue="low", at=None)

    assert isinstance(found, MandateJob)
    assert (found.id, found.state) == (job.id, "queued")


def test_enqueued_with_as_a_call_shows_the_differences_of_jobs_of_that_command(jobs):
    WriteNote.defer("a note")
    MyCommand.defer("x", wait_until=NOON)
    MyCommand.defer("y", queue="low")

    with failing(
        "Expected this job to be enqueued:",
        "  sample.MyCommand('y') in default, due at once",
        "Of that command there was:",
        "  sample.MyCommand('y') in low",
        "    queue is low, not default",
        "  sample.MyCommand('x') in default, due 2030-01-01T12:00:00+00:00",
        "    arg is 'x', not 'y'",
        "    at is 2030-01-01T12:00:00.000+00:00, not None",
    ):
        jobs.assert_enqueued_with(MyCommand, args=("y",), queue="default", at=None)


def test_enqueued_with_as_a_call_lists_the_other_enqueued_jobs(jobs):
    WriteNote.defer("a note")
    Fail.defer(queue="low", wait_until=NOON)

    with failing(
        "Expected this job to be enqueued:",
        "  sample.MyCommand",
        "What was enqueued:",
        "  sample.WriteNote('a note') in default",
        "  sample.Fail() in low, due 2030-01-01T12:00:00+00:00",
    ):
        jobs.assert_enqueued_with(MyCommand)


def test_enqueued_with_fails_without_any_job(jobs):
    with failing("Expected this job to be enqueued:", "  sample.MyCommand in low", "Nothing was enqueued."):
        jobs.assert_enqueued_with(MyCommand, queue="low")


def test_enqueued_with_in_a_block_has_the_job_after_it(jobs):
    MyCommand.defer("before")
    with jobs.assert_enqueued_with(MyCommand) as enqueued:
        assert enqueued.job is None
        job = MyCommand.defer("in it")

    assert enqueued.job.id == job.id


def test_enqueued_with_in_a_block_considers_only_jobs_of_the_block(jobs):
    MyCommand.defer("x")

    with (
        failing(
            "Expected this job to be enqueued:",
            "  sample.MyCommand('x')",
            "Of that command there was:",
            "  sample.MyCommand('y') in default",
            "    arg is 'y', not 'x'",
        ),
        jobs.assert_enqueued_with(MyCommand, args=("x",)),
    ):
        MyCommand.defer("y")


# --- assert_enqueued_jobs, assert_no_enqueued_jobs -------------------------------------------


def test_enqueued_jobs_as_a_call_counts_all_of_the_test(jobs):
    MyCommand.defer_many([("x",), ("y",)])
    WriteNote.defer("z", wait=60)

    jobs.assert_enqueued_jobs(3)


def test_enqueued_jobs_as_a_call_fails_with_them(jobs):
    MyCommand.defer("x")

    with failing("Expected 2 jobs to be enqueued, but 1 was:", "  sample.MyCommand('x') in default"):
        jobs.assert_enqueued_jobs(2)


def test_enqueued_jobs_fails_with_the_others_when_the_filter_leaves_none(jobs):
    MyCommand.defer("x")
    with failing(
        "Expected 1 job to be enqueued (only sample.Fail, in low), but none was. What was enqueued:",
        "  sample.MyCommand('x') in default",
    ):
        jobs.assert_enqueued_jobs(1, only=Fail, queue="low")


def test_enqueued_jobs_in_a_block_counts_the_block(jobs):
    MyCommand.defer("before")

    with jobs.assert_enqueued_jobs(1):
        MyCommand.defer("in it")


def test_enqueued_jobs_in_a_block_fails_with_those_of_the_block(jobs):
    MyCommand.defer("before")

    with (
        failing(
            "Expected 1 job to be enqueued, but 2 were:",
            "  sample.MyCommand('in it') in default",
            "  sample.MyCommand('too') in default",
        ),
        jobs.assert_enqueued_jobs(1),
    ):
        MyCommand.defer_many([("in it",), ("too",)])


def test_no_enqueued_jobs_as_a_call(jobs):
    jobs.assert_no_enqueued_jobs()
    MyCommand.defer("x")

    jobs.assert_no_enqueued_jobs(only=Fail)
    with failing("Expected no jobs to be enqueued, but 1 was:", "  sample.MyCommand('x') in default"):
        jobs.assert_no_enqueued_jobs()


def test_no_enqueued_jobs_in_a_block(jobs):
    MyCommand.defer("before")
    with jobs.assert_no_enqueued_jobs():
        pass

    with (
        failing("Expected no jobs to be enqueued (in low), but 1 was:", "  sample.MyCommand('x') in low"),
        jobs.assert_no_enqueued_jobs(queue="low"),
    ):
        MyCommand.defer("x", queue="low")


# --- the same about performed jobs; their blocks perform -------------------------------------


def test_performed_with_as_a_call_returns_the_job(jobs):
    job = MyCommand.defer("x", queue="low")
    jobs.perform_enqueued_jobs()

    assert jobs.assert_performed_with(MyCommand, args=("x",), queue="low").id == job.id


def test_performed_with_as_a_call_lists_the_performed_jobs_of_that_command(jobs):
    MyCommand.defer("x")
    jobs.perform_enqueued_jobs()
    MyCommand.defer("y")

    with failing(
        "Expected this job to be performed:",
        "  sample.MyCommand(arg='y')",
        "Of that command there was:",
        "  sample.MyCommand('x') in default",
        "    arg is 'x', not 'y'",
    ):
        jobs.assert_performed_with(MyCommand, kwargs={"arg": "y"})


def test_performed_with_in_a_block_performs_it(jobs):
    with jobs.assert_performed_with(Fail) as performed:
        MyCommand.defer("x")
        job = Fail.defer()

    assert (performed.job.id, job.state) == (job.id, "dead")
    jobs.assert_performed_jobs(2)


def test_performed_with_in_a_block_fails_without_any_attempt(jobs):
    with (
        failing("Expected this job to be performed:", "  sample.MyCommand", "Nothing was performed."),
        jobs.assert_performed_with(MyCommand),
    ):
        MyCommand.defer("x", wait=60)


def test_performed_with_compares_the_due_time(jobs):
    with jobs.assert_performed_with(MyCommand, at=NOON), jobs.perform_enqueued_jobs(at=NOON):
        MyCommand.defer("x", wait_until=NOON)


def test_performed_jobs_as_a_call(jobs):
    MyCommand.defer_many([("x",), ("y",)])
    jobs.perform_enqueued_jobs()

    jobs.assert_performed_jobs(2)
    with failing(
        "Expected 1 job to be performed (all but sample.Fail), but 2 were:",
        "  sample.MyCommand('x') in default",
        "  sample.MyCommand('y') in default",
    ):
        jobs.assert_performed_jobs(1, exclude=Fail)


def test_performed_jobs_in_a_block_performs_those_that_it_counts(jobs):
    with jobs.assert_performed_jobs(1, only=MyCommand):
        done, left = MyCommand.defer("x"), Fail.defer()

    assert (done.state, left.state) == ("finished", "queued")


def test_performed_jobs_in_a_block_fails_with_those_of_the_block(jobs):
    with (
        failing("Expected 2 jobs to be performed, but 1 was:", "  sample.MyCommand('x') in default"),
        jobs.assert_performed_jobs(2),
    ):
        MyCommand.defer("x")
        MyCommand.defer("y", wait=60)


def test_no_performed_jobs_as_a_call(jobs):
    MyCommand.defer("x")
    jobs.assert_no_performed_jobs()

    jobs.perform_enqueued_jobs()
    with failing("Expected no jobs to be performed, but 1 was:", "  sample.MyCommand('x') in default"):
        jobs.assert_no_performed_jobs()


def test_no_performed_jobs_in_a_block(jobs):
    with jobs.assert_no_performed_jobs(only=Fail):
        MyCommand.defer("x")

    with (
        failing("Expected no jobs to be performed, but 1 was:", "  sample.MyCommand('y') in default"),
        jobs.assert_no_performed_jobs(),
    ):
        MyCommand.defer("y")


# --- filters ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "number"),
    [
        ({}, 4),
        ({"only": MyCommand}, 1),
        ({"only": [MyCommand, Fail]}, 2),
        ({"only": {MyCommand}, "queue": "low"}, 0),
        ({"only": lambda recorded: recorded.args == ("w",)}, 1),
        ({"exclude": MyCommand}, 3),
        ({"exclude": (MyCommand, Fail)}, 2),
        ({"exclude": lambda recorded: recorded.queue == "low"}, 2),
        ({"queue": "low"}, 2),
        ({"queue": "low", "exclude": Fail}, 1),
    ],
)
def test_filters_choose(filters, number, jobs):
    MyCommand.defer("x")
    Fail.defer(queue="low")
    WriteNote.defer("w")
    WriteNoteSlowly.defer("s")

    jobs.assert_enqueued_jobs(number, **filters)
    with pytest.raises(AssertionError):
        jobs.assert_enqueued_jobs(number + 1, **filters)


class Base(Mandate):
    """A base of commands, not a command."""


NEVER = [
    ({"only": Fail, "exclude": MyCommand}, ValueError, "only and exclude exclude each other"),
    ({"queue": "mailer"}, UnknownQueueError, "Unknown queue: 'mailer'"),
    ({"only": Note}, TypeError, "Note'> is no command"),
    ({"only": Base}, TypeError, "Base'> is no command"),
    ({"exclude": [Fail, "Fail"]}, TypeError, "'Fail' is no command"),
    ({"only": "sample.Fail"}, TypeError, "is no command"),
]


@pytest.mark.parametrize(("filters", "error", "text"), NEVER)
def test_a_filter_that_can_never_match_is_refused(filters, error, text, jobs):
    with pytest.raises(error, match=text):
        jobs.assert_no_enqueued_jobs(**filters)


def test_a_command_that_could_never_be_enqueued_is_refused(jobs):
    class Nowhere(Mandate):
        def call(self):
            pass

    Nowhere.__module__ = "nowhere"
    with pytest.raises(TypeError, match="Base'> is no command"):
        jobs.assert_enqueued_with(Base)
    with pytest.raises(CommandDefinitionError, match="its module belongs to no installed app"):
        jobs.assert_no_enqueued_jobs(only=Nowhere)


def test_a_command_means_exactly_that_class(jobs, defined):
    WriteMore = defined(type("WriteMore", (WriteNote,), {}))
    WriteMore.defer("x")

    jobs.assert_no_enqueued_jobs(only=WriteNote)
    jobs.assert_enqueued_jobs(1, exclude=WriteNote)
    with failing(
        "Expected this job to be enqueued:",
        "  sample.WriteNote",
        "What was enqueued:",
        "  sample.WriteMore('x') in default",
    ):
        jobs.assert_enqueued_with(WriteNote)
    jobs.assert_enqueued_with(WriteMore)


# --- arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"args": ("x", 2)},
        {"args": ["x", 2]},
        {"args": ("x",), "kwargs": {"times": 2}},
        {"kwargs": {"text": "x", "times": 2}},
        {"kwargs": {"times": 2, "text": "x", "tags": []}},
    ],
)
@pytest.mark.parametrize("call", [lambda c: c.defer("x", 2), lambda c: c.defer(times=2, text="x")])
def test_arguments_are_compared_as_the_call_they_make(call, given, jobs, defined):
    call(defined(Repeat))

    jobs.assert_enqueued_with(Repeat, **given)


class Repeat(Mandate):
    text: str
    times: int = 1
    tags: list = field(default_factory=list)

    def call(self):
        pass


@pytest.mark.parametrize("given", [{"args": ("x",)}, {"kwargs": {"text": "x"}}, {"args": ("x", 2, ["t"])}])
def test_omitted_arguments_have_their_defaults(given, jobs, defined):
    defined(Repeat).defer("x", 2)

    with pytest.raises(AssertionError, match=r"(times is 2, not 1|tags is \[\], not \['t'\])$"):
        jobs.assert_enqueued_with(Repeat, **given)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"args": ("x", 2, [], 4)}, r"sample.Repeat cannot be called like that: too many positional arguments"),
        ({"kwargs": {"times": 2}}, r"missing a required argument: 'text'. It takes \(text: str, times: int = 1"),
        ({"kwargs": {"text": "x", "color": 1}}, "unexpected keyword argument 'color'"),
        ({"args": (7)}, "args=7, kwargs={}: give a tuple of values"),
        ({"args": "x"}, "args='x', kwargs={}: give a tuple of values"),
    ],
)
def test_a_call_that_the_command_does_not_take_is_refused(given, text, jobs, defined):
    defined(Repeat)
    with pytest.raises(TypeError, match=text):
        jobs.assert_enqueued_with(Repeat, **given)


def test_functions_match_all_or_single_arguments(jobs):
    MyCommand.defer("hello")

    jobs.assert_enqueued_with(MyCommand, args=lambda args: len(args) == 1)
    jobs.assert_enqueued_with(MyCommand, kwargs=lambda kwargs: kwargs == {})
    jobs.assert_enqueued_with(MyCommand, args=lambda args: args[0] > "a", kwargs={})
    jobs.assert_enqueued_with(MyCommand, args=(str.isalpha,))
    jobs.assert_enqueued_with(MyCommand, kwargs={"arg": lambda arg: arg.startswith("he")})


def test_a_function_that_refuses_is_named(jobs):
    MyCommand.defer("hello")

    with failing(
        "Expected this job to be enqueued:",
        "  sample.MyCommand(isdigit)",
        "Of that command there was:",
        "  sample.MyCommand('hello') in default",
        "    arg is 'hello', not what isdigit accepts",
    ):
        jobs.assert_enqueued_with(MyCommand, args=(str.isdigit,))
    with failing(
        "Expected this job to be enqueued:",
        "  sample.MyCommand(*<lambda>, **<lambda>) in what islower accepts, due what <lambda> accepts",
        "Of that command there was:",
        "  sample.MyCommand('hello') in default",
        "    args is ('hello'), not what <lambda> accepts",
        "    kwargs is {}, not what <lambda> accepts",
        "    at is None, not what <lambda> accepts",
    ):
        jobs.assert_enqueued_with(
            MyCommand, args=lambda a: False, kwargs=lambda k: False, queue=str.islower, at=lambda at: at is not None
        )


@pytest.mark.django_db
def test_records_are_compared_as_they_are_fetched_and_shown_as_references(jobs):
    note, other = Note.objects.create(text="x"), Note.objects.create(text="y")
    ShoutNote.defer(note, times=2)

    jobs.assert_enqueued_with(ShoutNote, args=(note, 2))
    with failing(
        "Expected this job to be enqueued:",
        f"  sample.ShoutNote(sample.Note:{other.pk}, times=2)",
        "Of that command there was:",
        f"  sample.ShoutNote(sample.Note:{note.pk}, times=2) in critical",
        f"    note is sample.Note:{note.pk}, not sample.Note:{other.pk}",
    ):
        jobs.assert_enqueued_with(ShoutNote, args=(other,), kwargs={"times": 2})


@pytest.mark.django_db
def test_a_record_that_is_gone_is_named(jobs):
    note = Note.objects.create(text="x")
    ShoutNote.defer(note)
    key = note.pk
    note.delete()

    jobs.assert_enqueued_with(ShoutNote, queue="critical")
    with pytest.raises(AssertionError, match=rf"its arguments cannot be read: .* are gone: sample.Note:{key}\.$"):
        jobs.assert_enqueued_with(ShoutNote, args=lambda args: True)


def test_private_arguments_are_not_printed(jobs):
    KeepSecret.defer("hunter2")

    jobs.assert_enqueued_with(KeepSecret, args=("hunter2",))
    with failing(
        "Expected this job to be enqueued:",
        "  sample.KeepSecret(...) in low",
        "Of that command there was:",
        "  sample.KeepSecret(...) in default",
        "    secret differs",
        "    queue is default, not low",
    ):
        jobs.assert_enqueued_with(KeepSecret, args=("swordfish",), queue="low")
    with failing("Expected no jobs to be enqueued, but 1 was:", "  sample.KeepSecret(...) in default"):
        jobs.assert_no_enqueued_jobs()


def test_of_many_jobs_the_nearest_are_shown(jobs):
    MyCommand.defer_many([(str(number),) for number in range(30)], queue="low")
    MyCommand.defer("31")

    with pytest.raises(AssertionError) as failed:
        jobs.assert_enqueued_with(MyCommand, args=("x",), queue="default")
    lines = str(failed.value).splitlines()
    assert lines[3:5] == ["  sample.MyCommand('31') in default", "    arg is '31', not 'x'"]
    assert lines[-1] == "  ... and 11 more"


# --- queues and times ------------------------------------------------------------------------


def test_a_queue_may_be_a_function(jobs):
    MyCommand.defer("x", queue="low")

    jobs.assert_enqueued_with(MyCommand, queue=lambda queue: queue != "default")
    with pytest.raises(AssertionError):
        jobs.assert_enqueued_with(MyCommand, queue=lambda queue: queue == "default")


@pytest.mark.parametrize(
    ("at", "fits"),
    [
        (NOON, True),
        (NOON + timedelta(seconds=1), True),
        (NOON - timedelta(seconds=1), True),
        (NOON + timedelta(seconds=1.001), False),
        (within(60).of(NOON - timedelta(minutes=1)), True),
        (within(timedelta(minutes=1)).of(NOON + timedelta(seconds=61)), False),
        (lambda at: at > NOON - timedelta(hours=1), True),
        (None, False),
    ],
)
def test_times_match_within_a_second_or_the_given_tolerance(at, fits, jobs):
    MyCommand.defer("x", wait_until=NOON)

    if fits:
        jobs.assert_enqueued_with(MyCommand, at=at)
    else:
        with pytest.raises(AssertionError, match=r"at is 2030-01-01T12:00:00.000\+00:00, not (within|None)"):
            jobs.assert_enqueued_with(MyCommand, at=at)


def test_a_wait_is_a_time_from_now(jobs):
    MyCommand.defer("x", wait=timedelta(minutes=5))

    jobs.assert_enqueued_with(MyCommand, at=timezone.now() + timedelta(minutes=5))
    with pytest.raises(AssertionError):
        jobs.assert_enqueued_with(MyCommand, at=None)


def test_a_time_without_a_zone_is_taken_as_defer_takes_it(jobs):
    naive = NOON.replace(tzinfo=None)
    with pytest.raises(ValueError, match="is naive"):
        jobs.assert_enqueued_with(MyCommand, at=naive)
    with pytest.raises(ValueError, match="is naive"):
        within(1).of(naive)

    with override_settings(USE_TZ=False, TIME_ZONE="Europe/Vienna"):
        MyCommand.defer("x", wait_until=naive)
        jobs.assert_enqueued_with(MyCommand, at=naive)
    jobs.assert_enqueued_with(MyCommand, at=NOON - timedelta(hours=1))


def test_a_tolerance_without_a_time_is_refused(jobs):
    MyCommand.defer("x", wait=60)

    with pytest.raises(TypeError, match=r"within\(1\)\.of\(time\)"):
        jobs.assert_enqueued_with(MyCommand, at=within(1))


# --- how they are used -----------------------------------------------------------------------


def test_an_error_in_the_block_is_raised_first(jobs):
    with pytest.raises(ZeroDivisionError), jobs.assert_enqueued_jobs(1), jobs.assert_performed_jobs(1):
        1 / 0  # noqa: B018
    MyCommand.defer("x")

    jobs.assert_no_performed_jobs()  # the blocks have ended


def test_blocks_may_stand_in_one_another(jobs):
    with jobs.assert_enqueued_jobs(2):
        MyCommand.defer("x")
        with jobs.assert_enqueued_jobs(1, only=Fail), jobs.assert_no_performed_jobs(queue="low"):
            Fail.defer()


def test_recorded_jobs_have_a_readable_text(jobs):
    job = MyCommand.defer("x", wait_until=NOON, queue="low")
    (recorded,) = jobs.enqueued_jobs

    assert (recorded.name, recorded.command, recorded.queue, recorded.at) == (
        "sample.MyCommand",
        MyCommand,
        "low",
        NOON,
    )
    assert (recorded.args, recorded.kwargs, recorded.job.id, recorded.job.state) == (("x",), {}, job.id, "scheduled")
    assert str(recorded) == "sample.MyCommand('x') in low, due 2030-01-01T12:00:00+00:00"
