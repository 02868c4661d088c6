"""The retry policy, a pure function."""

from asyncio import CancelledError
from datetime import timedelta
from functools import partial

import pytest
from django.db import DatabaseError, IntegrityError, OperationalError

from jobs import Deadlock, Mandate, RetryOn
from jobs.errors import CommandDefinitionError
from jobs.retries import Drop, GiveUp, Progress, Retry, decide, default_delay
from tests.sample.commands.trouble import FlakyError, HopelessError, Ruled, TroubleOnce, VeryFlakyError


class Default:
    retries, retry_on, discard_on = 25, (), ()


def delays(error, policy, chance=0.0):
    """Return the delay after each failure, until the policy gives up."""
    progress, found = Progress(), []
    while isinstance(verdict := decide(error, policy, progress, lambda: chance), Retry):
        found.append(verdict.delay)
        progress = verdict.progress
    return found, verdict


def test_the_default_curve_is_sidekiqs_and_takes_about_twenty_days():
    shortest, verdict = delays(RuntimeError(), Default)
    longest, _ = delays(RuntimeError(), Default, chance=1.0)

    assert verdict == GiveUp()
    assert shortest == [n**4 + 15 for n in range(25)]
    assert longest == [n**4 + 15 + 10 * (n + 1) for n in range(25)]
    assert 20 < sum(shortest) / 86_400 < sum(longest) / 86_400 < 21


def test_no_retries_means_that_the_first_failure_is_the_last():
    assert delays(RuntimeError(), TroubleOnce) == ([], GiveUp())


def test_a_rule_has_its_own_wait_and_attempts_and_when_exhausted_the_job_is_dead():
    assert delays(FlakyError(), Ruled) == ([10.0, 10.0], GiveUp())


def test_the_most_specific_rule_applies_at_any_position():
    found, _ = delays(VeryFlakyError(), Ruled)
    assert found == [100.0 * n for n in range(1, 9)]


def test_each_rule_has_its_own_budget():
    progress = decide(FlakyError(), Ruled, Progress()).progress
    progress = decide(RuntimeError(), Ruled, progress).progress
    progress = decide(FlakyError(), Ruled, progress).progress

    assert progress.attempts == 3
    assert decide(FlakyError(), Ruled, progress) == GiveUp()
    assert decide(RuntimeError(), Ruled, progress) == GiveUp()
    assert isinstance(decide(VeryFlakyError(), Ruled, progress), Retry)


@pytest.mark.parametrize("how", ["cause", "context"])
def test_rules_match_along_the_chain_of_causes(how):
    try:
        try:
            raise HopelessError
        except HopelessError as error:
            if how == "cause":
                raise RuntimeError from error
            raise RuntimeError  # noqa: B904
    except RuntimeError as error:
        assert decide(error, Ruled, Progress()) == Drop()


def test_a_suppressed_context_is_not_a_cause():
    try:
        try:
            raise HopelessError
        except HopelessError:
            raise RuntimeError from None
    except RuntimeError as error:
        assert isinstance(decide(error, Ruled, Progress()), Retry)


def test_a_cyclic_chain_ends():
    first, second = RuntimeError(), RuntimeError()
    first.__cause__, second.__cause__ = second, first
    assert isinstance(decide(first, Default, Progress()), Retry)


def test_the_error_itself_precedes_its_cause():
    error = FlakyError()
    error.__cause__ = HopelessError()
    assert isinstance(decide(error, Ruled, Progress()), Retry)


# --- groups ----------------------------------------------------------------------------------


class OddGroup(ExceptionGroup):
    pass


def together(*errors):
    return BaseExceptionGroup("several", errors)


def caused_by(cause):
    error = RuntimeError("outer")
    error.__cause__ = cause
    return error


def rule_of(error, policy=Ruled):
    """Return the claim on an error: "drop", or the key of its budget."""
    verdict = decide(error, policy, Progress(), lambda: 0.0)
    return "drop" if verdict == Drop() else next(iter(verdict.progress.failures))


FLAKY, VERY = (rule.key for rule in Ruled.retry_on)
LOCKED = OperationalError("database is locked")
BUILT_IN = "jobs.retries.Deadlock"
GROUPS = {
    "all are to be discarded": ([HopelessError(), HopelessError()], "drop"),
    "or their causes are": ([HopelessError(), caused_by(HopelessError())], "drop"),
    "in groups in groups": ([together(HopelessError(), together(HopelessError()))], "drop"),
    "cancellations do not count": ([HopelessError(), CancelledError()], "drop"),
    "one is another error": ([HopelessError(), RuntimeError()], ""),
    "one is to be retried": ([HopelessError(), RuntimeError(), FlakyError()], FLAKY),
    "or its cause is": ([RuntimeError(), caused_by(FlakyError())], FLAKY),
    "or a member of its cause": ([caused_by(together(RuntimeError(), FlakyError()))], FLAKY),
    "deep inside": ([together(RuntimeError(), together(together(FlakyError())))], FLAKY),
    "the most special rule for each": ([VeryFlakyError()], VERY),
    "the first rule in the list of several": ([VeryFlakyError(), FlakyError()], FLAKY),
    "one is a deadlock": ([RuntimeError(), HopelessError(), LOCKED], BUILT_IN),
    "a rule goes before the built-in one": ([LOCKED, FlakyError()], FLAKY),
    "only cancellations": ([CancelledError()], ""),
    "no rule": ([RuntimeError(), KeyError()], ""),
}


@pytest.mark.parametrize(("errors", "expected"), GROUPS.values(), ids=GROUPS)
def test_rules_look_into_groups(errors, expected):
    assert rule_of(together(*errors)) == expected
    assert rule_of(caused_by(together(*errors))) == expected


def test_a_rule_for_the_class_of_a_group_goes_before_those_for_its_members():
    class Policy(Ruled):
        retry_on = [*Ruled.retry_on, RetryOn(OddGroup)]
        discard_on = [HopelessError, ExceptionGroup]

    assert rule_of(OddGroup("odd", [FlakyError()]), Policy) == Policy.retry_on[2].key
    assert rule_of(together(SystemExit(), OddGroup("odd", [FlakyError()])), Policy) == Policy.retry_on[2].key
    assert rule_of(ExceptionGroup("plain", [FlakyError()]), Policy) == "drop"


def test_a_rule_for_every_exception_means_the_members_of_a_group():
    class Policy:
        retries, discard_on = 25, ()
        retry_on = [RetryOn(Exception), RetryOn(FlakyError)]

    class DropAll(Policy):
        retry_on, discard_on = (), [Exception]

    assert rule_of(together(VeryFlakyError()), Policy) == Policy.retry_on[1].key
    assert rule_of(together(RuntimeError()), Policy) == Policy.retry_on[0].key
    assert rule_of(together(RuntimeError(), KeyError()), DropAll) == "drop"
    assert rule_of(together(RuntimeError(), SystemExit()), DropAll) == ""


def test_a_group_uses_the_budget_of_the_rule_that_claims_a_member():
    assert delays(together(RuntimeError(), FlakyError()), Ruled) == ([10.0, 10.0], GiveUp())
    assert delays(together(LOCKED), Default)[0] == [3.0] * 4 + [n**4 + 15 for n in range(25)]


def test_a_callable_wait_receives_the_member_that_its_rule_claims():
    class Policy:
        retries, discard_on = 0, ()
        retry_on = [RetryOn(FlakyError, wait=lambda attempt, error: error.args[0])]

    assert delays(together(RuntimeError(), FlakyError(7)), Policy)[0] == [7.0] * 4


def test_cyclic_and_very_deep_groups_end():
    member = RuntimeError()
    group = together(member, FlakyError())
    member.__cause__ = group
    assert rule_of(group) == FLAKY

    for _ in range(50):  # each in the context of the one before: 2**50 ways to the first
        members = RuntimeError(), RuntimeError()
        for each in members:
            each.__cause__ = group
        group = together(*members)
    assert rule_of(group) == FLAKY

    for _ in range(5_000):
        group = together(group)
    assert rule_of(group) == ""


def database_error(kind=OperationalError, *args, **driver):
    error = kind(*args)
    error.__cause__ = type("DriverError", (Exception,), driver)()
    return error


DEADLOCKS = {
    "PostgreSQL deadlock": database_error(sqlstate="40P01"),
    "PostgreSQL serialization failure": database_error(sqlstate="40001"),
    "psycopg2": database_error(pgcode="40P01"),
    "MySQL deadlock": database_error(OperationalError, 1213, "Deadlock found"),
    "MySQL lock wait": database_error(OperationalError, 1205, "Lock wait timeout exceeded"),
    "SQLite": OperationalError("database is locked"),
    "SQLite table": OperationalError("database table is locked: x"),
}


@pytest.mark.parametrize("error", DEADLOCKS.values(), ids=DEADLOCKS)
def test_deadlocks_are_retried_quickly_and_then_along_the_default_curve(error):
    found, verdict = delays(error, Default)

    assert found == [3.0] * 4 + [n**4 + 15 for n in range(25)]
    assert verdict == GiveUp()


@pytest.mark.parametrize(
    "error", [database_error(sqlstate="57P01"), OperationalError("gone away"), IntegrityError("x"), RuntimeError(1213)]
)
def test_other_database_errors_are_not_deadlocks(error):
    assert delays(error, Default)[0][0] == 15


def test_a_commands_own_rule_for_deadlocks_or_their_base_goes_before_the_built_in_one():
    class Own:
        retries, discard_on = 25, ()
        retry_on = [RetryOn(Deadlock, wait=1, attempts=2, jitter=0)]

    class Base(Own):
        retry_on = [RetryOn(DatabaseError, wait=60, attempts=2, jitter=0)]

    locked = OperationalError("database is locked")
    assert delays(locked, Own) == ([1.0], GiveUp())
    assert delays(locked, Base) == ([60.0], GiveUp())


WAITS = {
    "seconds": (5, 0.0, [5.0, 5.0]),
    "seconds with all jitter": (100, 1.0, [115.0, 115.0]),
    "a timedelta": (timedelta(minutes=1), 0.0, [60.0, 60.0]),
    "polynomially longer": ("polynomially_longer", 0.0, [3.0, 18.0]),
    "polynomially longer with all jitter": ("polynomially_longer", 1.0, [1.15 + 2, 16 * 1.15 + 2]),
    "a callable": (lambda attempt, error: timedelta(seconds=attempt), 1.0, [1.0, 2.0]),
}


@pytest.mark.parametrize(("wait", "chance", "expected"), WAITS.values(), ids=WAITS)
def test_waits_are_those_of_active_job(wait, chance, expected):
    class Policy:
        retries, discard_on = 0, ()
        retry_on = [RetryOn(FlakyError, wait=wait, attempts=3)]

    assert delays(FlakyError(), Policy, chance)[0] == pytest.approx(expected)


async def wait_async(attempt, error):
    return 1


def wait_yielding(attempt, error):
    yield 1


class WaitAsync:
    async def __call__(self, attempt, error):
        return 1


@pytest.mark.parametrize(
    ("wait", "kind"),
    [
        (wait_async, "a coroutine function"),
        (partial(wait_async), "a coroutine function"),
        (WaitAsync(), "a coroutine function"),
        (wait_yielding, "a generator function"),
    ],
)
def test_a_wait_whose_body_a_call_would_not_run_is_refused(wait, kind):
    with pytest.raises(CommandDefinitionError, match=rf"RetryOn\(.* wait is {kind}"):
        RetryOn(FlakyError, wait=wait)


@pytest.mark.parametrize(
    "wait",
    [
        lambda attempt, error: 1 / 0,
        lambda attempt, error: "soon",
        lambda attempt, error: wait_async(attempt, error),
    ],
)
def test_a_wait_that_fails_is_logged_and_replaced_by_the_default(wait, caplog):
    class Policy:
        retries, discard_on = 0, ()
        retry_on = [RetryOn(FlakyError, wait=wait, attempts=2)]

    assert decide(FlakyError(), Policy, Progress(), lambda: 0.0).delay == default_delay(0, 0.0)
    assert "the default one is used" in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        {"errors": ()},
        {"errors": ("FlakyError",)},
        {"errors": (int,)},
        {"attempts": 0},
        {"attempts": 1.5},
        {"wait": -1},
        {"wait": "soon"},
        {"wait": float("inf")},
        {"wait": None},
        {"jitter": 2},
    ],
)
def test_an_invalid_rule_is_refused_naming_it(options):
    errors = options.pop("errors", (FlakyError,))
    with pytest.raises(CommandDefinitionError, match=r"RetryOn\("):
        RetryOn(*errors, **options)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("retries", -1),
        ("retries", True),
        ("retry_on", FlakyError),
        ("retry_on", [FlakyError]),
        ("discard_on", FlakyError),
        ("discard_on", ["FlakyError"]),
        ("max_requeues", -1),
        ("expires_in", 0),
        ("expires_in", "1m"),
        ("unique_for", 0),
        ("unique_for", timedelta(0)),
        ("guard_against_deserialization_errors", None),
    ],
)
def test_an_invalid_option_is_refused_naming_class_and_option(option, value):
    with pytest.raises(CommandDefinitionError, match=rf"Odd: {option} = .* is impossible"):
        type("Odd", (Mandate,), {option: value, "call": lambda self: None})


def test_an_error_that_is_to_be_both_retried_and_discarded_is_refused():
    with pytest.raises(CommandDefinitionError, match="FlakyError"):
        type(
            "Odd",
            (Mandate,),
            {"retry_on": [RetryOn(FlakyError)], "discard_on": [FlakyError], "call": lambda self: None},
        )


@pytest.mark.parametrize("text", [b"[]", b"{", b'{"attempts": "3"}', b'{"failures": {"": null}}'])
def test_tampered_progress_is_refused(text):
    with pytest.raises((ValueError, AttributeError)):
        Progress.load(text)


def test_fields_that_a_newer_release_added_to_the_progress_are_ignored():
    assert Progress.load(b'{"attempts": 3, "mood": "calm"}') == Progress(attempts=3)


def test_progress_round_trips():
    progress = Progress(attempts=3, requeues=1, failures={"": 2}, since={"records": 1.5})
    assert Progress.load(progress.dump()) == progress
    assert Progress().dump() == b"{}"
