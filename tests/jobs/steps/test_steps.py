"""Steps of commands in a worker: what has ended is passed over, what was begun goes on, and what is refused."""

import re
import time
from math import inf
from types import SimpleNamespace

import pytest
from django.db import transaction

from jobs import control, execution
from jobs.attempts.interrupt import Interruptible
from jobs.broker.connections import get_connection
from jobs.errors import CommandDefinitionError
from jobs.limits.policy import Concurrency
from jobs.mandate import Mandate
from jobs.steps import checkpoints
from jobs.steps.record import State
from jobs.worker.recovery import recover
from jobs.worker.surroundings import new_context
from tests.sample.commands.steps import Plan, Stroll

pytestmark = pytest.mark.django_db(transaction=True)


class Planned(Exception):
    """As planned."""


def state_of(job):
    return State.load(get_connection("default").hget(f"rq:job:{job.id}", "steps") or b"")


def names(job):
    return [event.name for event in job.history]


def test_a_step_that_has_ended_is_passed_over_and_returns_its_result_again(worker, plan, did):
    @plan
    def fail_once(command):
        did.append(command.step(command.one))
        command.step(command.two)
        if len(did) < 4:
            raise Planned

    job = Plan.defer("fail_once")
    worker.run()
    assert (job.state, did) == ("retrying", ["one", "first", "two"])

    worker.hurry().run()
    assert (job.state, did) == ("finished", ["one", "first", "two", "first"])
    assert [(step.name, step.has_result) for step in state_of(job).ended] == [("one", True), ("two", False)]


def test_the_end_of_a_step_is_written_before_the_next_line_runs(worker, plan, did):
    @plan
    def look(command):
        command.step(command.one)
        did.append([step.name for step in state_of(command.job).ended])

    Plan.defer("look")
    worker.run()
    assert did == ["one", ["one"]]


def test_a_stop_ends_the_attempt_at_a_checkpoint_and_the_job_goes_on_first_with_nothing_used(worker, plan, did, orders):
    @plan
    def stop_in_the_middle(command):
        for number in command.each(range(10)):
            did.append(number)
            if did == [0, 1, 2]:
                orders.reason = "the worker stops"
        command.step(command.one)

    job, behind = Plan.defer("stop_in_the_middle"), Plan.defer("stop_in_the_middle")
    worker.step()
    client = get_connection("default")
    assert client.lrange("rq:queue:default", 0, -1) == [job.id.encode(), behind.id.encode()]
    assert (job.state, job.progress.attempts, client.hget(job.key, "interruptions")) == ("queued", 0, None)
    assert (state_of(job).current.cursor, state_of(job).resumed, names(job)[-1]) == (3, 1, "resumed")

    behind.delete()
    worker.run()
    assert (job.state, did) == ("finished", [*range(10), "one"])


def die_in(worker):
    """Make an attempt whose outcome is lost, as of a worker that dies."""
    claim = worker.claim()
    claim.started = claim.deadline = time.monotonic()
    new_context().run(execution.attempt, claim, Interruptible())
    worker.fetch.put_back_running()
    worker.fetch._steps.held.clear()


def test_a_worker_that_dies_loses_what_was_not_written(worker, plan, did, often):
    @plan
    def visit(command):
        for number in command.each(range(4)):
            did.append(number)
            if did == [0, 1, 2]:
                raise Planned

    job = Plan.defer("visit")
    die_in(worker)
    worker.run()
    assert (job.state, did) == ("finished", [0, 1, 2, 2, 3])


def test_an_attempt_that_makes_progress_does_not_kill_its_workers(worker, plan, did, often):
    @plan
    def visit(command):
        for number in command.each(range(20)):
            did.append(number)
            if number % 2 and did.count(number) == 1:
                raise Planned

    job = Plan.defer("visit")
    for _ in range(6):
        claim = worker.claim()
        claim.started = claim.deadline = time.monotonic()
        new_context().run(execution.attempt, claim, Interruptible())
        recover(worker.fetch._wire, "default", only=worker.name)  # all of its executions are suspect
        worker.fetch._steps.held.clear()
        if job.state == "dead":
            break
    assert job.state == "queued"


def test_the_function_of_a_step_may_keep_a_cursor(worker, plan, did, orders):
    def copy(step):
        while step.cursor < 5:
            did.append(step.cursor)
            if did == [1, 2]:
                orders.reason = "the worker stops"
            step.set(step.cursor + 1)

    @plan
    def with_a_cursor(command):
        command.step(copy, start=1)

    job = Plan.defer("with_a_cursor")
    assert worker.run() == 2
    assert (job.state, did) == ("finished", [1, 2, 3, 4])


def test_a_refused_checkpoint_ends_the_attempt(worker, plan, did, often, caplog):
    @plan
    def be_cancelled(command):
        for number in command.each(range(5)):
            did.append(number)
            if number == 1:
                control.cancel(command.job)

    job = Plan.defer("be_cancelled")
    worker.run()
    assert (job.state, did) == ("cancelled", [0, 1])


def test_the_timeout_counts_from_the_last_checkpoint(worker, plan, orders, often):
    @plan
    def visit(command):
        for _ in command.each(range(3)):
            pass

    Plan.defer("visit")
    worker.run()
    assert set(orders.allowed) == {180} and len(orders.allowed) == 5  # the begin, three items, the end


def test_after_max_runtime_the_job_goes_to_the_tail(worker, plan, did, monkeypatch):
    monkeypatch.setattr(Plan, "max_runtime", 1e-9)

    @plan
    def both(command):
        command.step(command.one)
        command.step(command.two)

    job, behind = Plan.defer("both"), Plan.defer("both")
    worker.step()
    assert get_connection("default").lrange("rq:queue:default", 0, -1) == [behind.id.encode(), job.id.encode()]
    assert (did, state_of(job).resumed) == (["one"], 1)
    behind.delete()
    worker.run()
    assert (job.state, did) == ("finished", ["one", "two"])


def test_a_job_that_leaves_off_frees_the_slot_of_its_limit_and_takes_it_again(worker, plan, did, orders, monkeypatch):
    monkeypatch.setattr(Plan, "limits", [Concurrency(1)])

    @plan
    def visit(command):
        for number in command.each(range(4)):
            did.append(number)
            if did == [0, 1]:
                orders.reason = "the worker stops"

    job, behind = Plan.defer("visit"), Plan.defer("visit")
    worker.run()
    assert (job.state, behind.state, did) == ("finished", "finished", [0, 1, 2, 3, 0, 1, 2, 3])


class TestFailures:
    def test_after_progress_their_count_begins_anew(self, worker, plan, did):
        @plan
        def fail_at_each(command):
            for number in command.each(range(6)):
                did.append(number)
                if did.count(number) == 1:
                    raise Planned

        job = Plan.defer("fail_at_each")
        for _ in range(7):
            worker.hurry().run()
        assert (job.state, did) == ("finished", [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])  # with three retries
        assert state_of(job).resumed == 5

    def test_without_progress_it_dies_as_any_other(self, worker, plan, did):
        @plan
        def fail(command):
            for number in command.each(range(6)):
                if number == 3:
                    did.append(number)
                    raise Planned

        job = Plan.defer("fail")
        for _ in range(7):
            worker.hurry().run()
        assert (job.state, did) == ("dead", [3, 3, 3, 3])

    def test_resume_limit_bounds_them(self, worker, plan, did, monkeypatch):
        monkeypatch.setattr(Plan, "resume_limit", 2)

        @plan
        def fail_at_each(command):
            for number in command.each(range(6)):
                did.append(number)
                if did.count(number) == 1:
                    raise Planned

        job = Plan.defer("fail_at_each")
        for _ in range(7):
            worker.hurry().run()
        assert job.state == "dead"
        assert job.reason == "resumed more than its 2 times: Planned: "

    def test_resume_limit_bounds_stops(self, worker, plan, orders, monkeypatch):
        monkeypatch.setattr(Plan, "resume_limit", 1)

        @plan
        def stop(command):
            orders.reason = "the worker stops"
            command.step(command.one)

        job = Plan.defer("stop")
        assert worker.run() == 2
        assert (job.state, job.reason) == ("dead", "resumed more than its 1 times: the worker stops")

    def test_a_retry_by_a_person_goes_on_too(self, worker, plan, did, monkeypatch):
        monkeypatch.setattr(Plan, "retries", 0)

        @plan
        def fail_once(command):
            command.step(command.one)
            if len(did) == 1:
                did.append("failed")
                raise Planned

        job = Plan.defer("fail_once")
        worker.run()
        control.retry(job)
        worker.run()
        assert (job.state, did) == ("finished", ["one", "failed"])


class TestIsolated:
    def test_an_isolated_step_has_an_attempt_to_itself(self, worker, plan, did):
        @plan
        def isolate(command):
            did.append("attempt")
            command.step(command.one)
            command.step(command.two, isolated=True)
            command.step(lambda: did.append("three"), name="three")

        job = Plan.defer("isolate")
        assert worker.run() == 3
        assert (job.state, did) == ("finished", ["attempt", "one", "attempt", "two", "attempt", "three"])


class TestRefused:
    """Each is an error of the attempt, and says what to do."""

    @pytest.fixture
    def reason(self, worker, plan):
        def run(function):
            plan(function)
            job = Plan.defer(function.__name__)
            worker.run()
            assert job.state in ("retrying", "dead")
            return job.reason

        return run

    def test_a_name_twice(self, reason):
        def twice(command):
            command.step(command.one)
            command.step(command.one)

        assert "Two steps are called 'one'" in reason(twice)

    def test_a_step_in_a_step(self, reason):
        def nested(command):
            command.step(lambda: command.step(command.one), name="outer")

        assert "The step 'one' begins inside another one, 'outer'" in reason(nested)

    def test_a_step_in_a_loop(self, reason):
        def nested(command):
            for _ in command.each(range(2)):
                command.step(command.one)

        assert "begins inside another one, 'each'" in reason(nested)

    def test_a_step_without_a_name(self, reason):
        def nameless(command):
            command.step(lambda: None)

        assert "'<lambda>' is no name of a step" in reason(nameless)

    @pytest.mark.parametrize("name", ["", "x" * 101, 7, "\ud800", "a\nb"])
    def test_a_name_that_is_none(self, reason, name):
        def nameless(command):
            command.step(command.one, name=name)

        assert "is no name of a step" in reason(nameless)

    @pytest.mark.parametrize("total", [-1, 1.5, "many", object()])
    def test_a_total_that_is_none(self, reason, total):
        def countless(command):
            for _ in command.each(range(2), total=total):
                pass

        assert "is impossible. Give the number of items" in reason(countless)

    def test_a_coroutine_function(self, reason):
        async def sleep():
            pass

        def coroutine(command):
            command.step(sleep)

        assert "is a coroutine function" in reason(coroutine)

    def test_a_result_that_cannot_be_recorded(self, reason):
        def unsendable(command):
            command.step(object, name="make")

        assert "The result of the step 'make' cannot be recorded" in reason(unsendable)

    def test_a_result_over_64_kilobytes(self, reason):
        def large(command):
            command.step(lambda: "x" * 70_000, name="make")

        assert "70,002 bytes, over 65,536" in reason(large)

    def test_a_cursor_that_cannot_be_recorded(self, reason):
        def unsendable(command):
            command.step(lambda step: step.set(object()), name="walk")

        assert "The cursor of the step 'walk' cannot be recorded" in reason(unsendable)

    def test_a_cursor_over_64_kilobytes(self, reason):
        def large(command):
            command.step(lambda step: step.set("x" * 70_000), name="walk")

        assert "is over 65,536 bytes" in reason(large)

    def test_a_step_inside_an_open_transaction(self, reason):
        def inside(command):
            with transaction.atomic():
                command.step(command.one)

        assert reason(inside).startswith("CheckpointError: A checkpoint inside an open transaction")

    def test_a_loop_inside_an_open_transaction(self, reason):
        def inside(command):
            with transaction.atomic():
                for _ in command.each(range(2)):
                    pass

        assert reason(inside).startswith("CheckpointError")

    def test_a_step_of_an_atomic_command(self, reason, monkeypatch):
        monkeypatch.setattr(Plan, "atomic", True)

        def atomic(command):
            command.step(command.one)

        assert reason(atomic).startswith("CheckpointError")

    def test_a_step_while_an_error_leaves_another(self, reason, did):
        def finally_step(command):
            try:
                for _ in command.each(range(2)):
                    raise Planned
            finally:
                command.step(command.one)

        assert "The step 'one' begins while an error leaves another one, 'each'" in reason(finally_step)
        assert did == []

    def test_options_that_are_impossible(self, own_commands):
        for options in ({"max_runtime": 0}, {"resume_limit": -1}, {"steps_renamed": {"a": 1}}):
            with pytest.raises(CommandDefinitionError, match="is impossible"):
                type("Impossible", (Mandate,), {**options, "call": lambda self: None})


class TestReleases:
    """The second attempt is made by another release."""

    def change(self, worker, plan, first, second):
        @plan
        def changing(command):
            Plan.plans["changing"] = second
            first(command)
            raise Planned

        job = Plan.defer("changing")
        worker.run()
        worker.hurry().run()
        return job

    def test_that_has_changed_the_order_is_refused(self, worker, plan, did):
        def before(command):
            command.step(command.one)
            command.step(command.two)

        def after(command):
            command.step(command.two)
            command.step(command.one)

        job = self.change(worker, plan, before, after)
        assert "`call` has come to the step 'two', but the job was at 'one' there" in job.reason
        assert did == ["one", "two"]

    def test_that_has_renamed_a_step_may_say_so(self, worker, plan, did, monkeypatch):
        monkeypatch.setattr(Plan, "steps_renamed", {"one": "two"})

        def after(command):
            did.append(command.step(command.two))

        job = self.change(worker, plan, lambda command: command.step(command.one), after)
        assert (job.state, did) == ("finished", ["one", "first"])

    def test_that_has_taken_the_argument_from_a_step_is_refused(self, worker, plan):
        def before(command):
            command.step(self.walk, name="walk")

        job = self.change(worker, plan, before, lambda command: command.step(lambda: None, name="walk"))
        assert "has a cursor from an earlier release" in job.reason

    @staticmethod
    def walk(step):
        step.set(3)
        raise Planned

    def test_that_walks_by_another_key_is_refused(self, worker, plan):
        def before(command):
            for number in command.each(range(3)):
                if number:
                    raise Planned

        job = self.change(worker, plan, before, lambda command: command.step(self.walk, name="each"))
        assert "is at a cursor of the kind 'count', and this release walks 'step'" in job.reason

    def test_a_result_that_is_gone_is_refused(self, worker, plan):
        def before(command):
            command.step(command.one)
            get_connection("default").hset(command.job.key, "step:0", "")

        job = self.change(worker, plan, before, lambda command: command.step(command.one))
        get_connection("default").hdel(job.key, "step:0")
        worker.hurry().run()
        assert "The result of the step 'one' is gone" in job.reason

    def test_a_field_that_nobody_has_written_is_refused(self, worker, plan):
        @plan
        def one_step(command):
            command.step(command.one)

        job = Plan.defer("one_step")
        get_connection("default").hset(job.key, mapping={"steps": "{", "more": "s"})
        worker.run()
        assert "The field `steps` of the job's record cannot be read" in job.reason


class TestLoops:
    def test_a_loop_may_be_left_by_break(self, worker, plan, did):
        @plan
        def leave(command):
            for number in command.each(range(10)):
                if number == 2:
                    break
            command.step(command.one)
            if len(did) == 1:
                did.append("failed")
                raise Planned

        job = Plan.defer("leave")
        worker.run()
        worker.hurry().run()
        assert (job.state, did) == ("finished", ["one", "failed"])
        assert [(step.name, step.done) for step in state_of(job).ended] == [("each", 2), ("one", 0)]

    def test_an_iterable_that_never_ends_is_gone_on_with(self, worker, plan, did, orders):
        def numbers():
            number = 0
            while True:
                yield number
                number += 1

        @plan
        def endless(command):
            for number in command.each(numbers()):
                did.append(number)
                if number == 2:
                    orders.reason = "the worker stops"
                if number == 5:
                    break

        job = Plan.defer("endless")
        worker.run()
        assert (job.state, did) == ("finished", [0, 1, 2, 3, 4, 5])

    def test_what_is_no_iterable_is_refused(self, worker, plan):
        @plan
        def number(command):
            for _ in command.each(7):
                pass

        job = Plan.defer("number")
        worker.run()
        assert "`each` goes over a queryset or an iterable, not over 7" in job.reason


class TestServer:
    def test_a_loop_goes_on_while_the_server_is_away(self, worker, plan, did, often, monkeypatch, caplog):
        run_script, is_away = checkpoints.run_script, False

        def run(*arguments, **options):
            if is_away:
                raise ConnectionError("away")
            return run_script(*arguments, **options)

        monkeypatch.setattr(checkpoints, "run_script", run)

        @plan
        def outage(command):
            nonlocal is_away
            for number in command.each(range(5)):
                did.append((number, state_of(command.job).current.done))
                is_away = number in (1, 2)

        job = Plan.defer("outage")
        worker.run()
        assert (job.state, did) == ("finished", [(0, 0), (1, 1), (2, 1), (3, 1), (4, 4)])
        assert caplog.text.count("cannot write a checkpoint") == 1

    def test_the_end_of_a_step_waits_for_the_server_until_the_time_limit(self, worker, plan, did, monkeypatch):
        def away(*arguments, **options):
            did.append("asked")
            if did.count("asked") == 3:
                claim.deadline = 0.0
            raise ConnectionError("away")

        @plan
        def outage(command):
            with monkeypatch.context() as patch:
                patch.setattr(checkpoints, "run_script", away)
                patch.setattr(checkpoints, "time", SimpleNamespace(**vars(time) | {"sleep": lambda seconds: None}))
                command.step(command.one)

        job = Plan.defer("outage")
        claim = worker.claim()
        claim.started, claim.deadline = time.monotonic(), inf
        outcome, command = new_context().run(execution.attempt, claim, Interruptible())
        worker.fetch.commits.add(claim, outcome, command, 0.1)
        worker._look(claims=False)
        assert job.state == "retrying" and did.count("asked") == 3
        assert [step.name for step in state_of(job).ended] == ["one"]  # it came with the outcome
        worker.hurry().run()
        assert job.state == "finished" and did.count("one") == 1


def test_on_an_event_loop_the_end_of_a_step_does_not_wait_for_the_server(worker, monkeypatch):
    def away(*arguments, **options):
        raise ConnectionError("away")

    job = Stroll.defer(1)
    claim = worker.claim()
    claim.started, claim.deadline = time.monotonic(), time.monotonic() + 100
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "run_script", away)
        outcome, command = new_context().run(execution.attempt, claim, Interruptible())
    worker.fetch.commits.add(claim, outcome, command, 0.1)
    worker._look(claims=False)
    assert (job.state, job.reason) == ("retrying", "ConnectionError: away")
    assert [step.name for step in state_of(job).ended] == ["begin"]  # it came with the outcome


def test_without_a_worker_the_functions_are_just_called(did, plan):
    @plan
    def both(command):
        did.append(command.step(command.one))
        for number in command.each(range(2)):
            did.append(number)
        command.step(command.two, isolated=True)

    Plan.run("both")
    assert did == ["one", "first", 0, 1, "two"]


def test_a_job_without_steps_pays_nothing(worker, plan):
    @plan
    def nothing(command):
        pass

    job = Plan.defer("nothing")
    worker.run()
    assert not {b"steps", b"more"} & set(get_connection("default").hgetall(job.key))


def test_what_a_slow_step_is_called_is_logged(worker, plan, caplog, monkeypatch):
    monkeypatch.setattr(checkpoints, "SLOW", -1.0)

    @plan
    def slow(command):
        command.step(command.one)

    job = Plan.defer("slow")
    worker.run()
    assert re.search(r"step 'one' ran \d+ s without a checkpoint", caplog.text)
    assert state_of(job).slow.keys() == {"(between steps)", "one"}
