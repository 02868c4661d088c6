"""Tests that run at the same time do not see each other's jobs: threads, tasks, processes."""

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from jobs.broker.connections import get_connection
from jobs.testing import Kit
from tests.sample.commands.original import MyCommand


def in_threads(*functions):
    """Run each in a thread of its own, all at once. Returns their results."""
    with ThreadPoolExecutor(len(functions)) as threads:
        return [future.result(timeout=20) for future in [threads.submit(function) for function in functions]]


def test_threads_with_kits_of_their_own_do_not_see_each_others_jobs():
    all_open, all_done = threading.Barrier(3, timeout=20), threading.Barrier(3, timeout=20)

    def test_of(name):
        def run():
            with Kit() as jobs:
                all_open.wait()
                jobs.travel(3_600 * len(name))
                with jobs.perform_enqueued_jobs():
                    performed = MyCommand.defer(name)
                waiting = MyCommand.defer(name, wait=60)
                all_done.wait()
                jobs.assert_enqueued_jobs(2)
                jobs.assert_performed_jobs(1)
                jobs.assert_enqueued_with(MyCommand, args=(name,))
                return performed.state, waiting.state, {recorded.args for recorded in jobs.enqueued_jobs}

        return run

    names = ["a", "bb", "ccc"]
    assert in_threads(*map(test_of, names)) == [("finished", "scheduled", {(name,)}) for name in names]


def test_a_thread_of_the_code_under_test_sees_the_kit_that_is_open(jobs):
    job = in_threads(lambda: MyCommand.defer("x"))[0]
    with jobs.perform_enqueued_jobs():
        (performed,) = in_threads(lambda: MyCommand.defer("y"))

    assert (job.state, performed.state) == ("queued", "finished")
    jobs.assert_enqueued_jobs(2)


def test_a_thread_sees_the_innermost_of_nested_kits(jobs):
    with Kit() as inner:
        in_threads(lambda: MyCommand.defer("x"))
        inner.assert_enqueued_jobs(1)
    in_threads(lambda: MyCommand.defer("y"))

    jobs.assert_enqueued_jobs(1)


def test_a_thread_with_several_open_kits_is_an_error(jobs):
    opened, ended = threading.Event(), threading.Event()

    def other_test():
        with Kit():
            opened.set()
            assert ended.wait(20)

    def code_under_test():
        assert opened.wait(20)
        try:
            with pytest.raises(RuntimeError, match="no testing kit of its own, and 2 are open"):
                MyCommand.defer("x")
        finally:
            ended.set()

    in_threads(other_test, code_under_test)
    jobs.assert_no_enqueued_jobs()


def test_tasks_see_the_kit_they_were_started_in():
    async def test_of(name):
        with Kit() as jobs:
            await MyCommand.adefer(name)
            await asyncio.gather(MyCommand.adefer(name), asyncio.to_thread(MyCommand.defer, name))
            return [recorded.args for recorded in jobs.enqueued_jobs]

    async def both():
        return await asyncio.gather(asyncio.to_thread(asyncio.run, test_of("a")), test_of("b"))

    assert asyncio.run(both()) == [[("a",)] * 3, [("b",)] * 3]


def test_kits_may_close_in_any_order(valkey):
    with ExitStack() as stack:
        first, second = Kit(), Kit()
        first.__enter__()
        stack.enter_context(second)
        first.__exit__()
        MyCommand.defer("x")
        second.assert_enqueued_jobs(1)

    assert get_connection("default").ping()  # the server's again

    opened, deferred = threading.Event(), threading.Event()

    def other_test():
        with Kit() as jobs:
            opened.set()
            assert deferred.wait(20)
            jobs.assert_enqueued_jobs(1)

    def defer():
        assert opened.wait(20)
        MyCommand.defer("y")  # in this thread, whose own kits are closed
        deferred.set()

    with ThreadPoolExecutor(1) as threads:
        test = threads.submit(other_test)
        defer()
        test.result(timeout=20)


SMALL = """
import pytest
from jobs.testing import Kit
from tests.sample.commands.original import MyCommand

@pytest.mark.parametrize("number", range(12))
def test_jobs_are_this_tests_own(number, jobs):
    jobs.assert_no_enqueued_jobs()
    for _ in range(number):
        MyCommand.defer(str(number))
    assert jobs.perform_enqueued_jobs() == number
    assert {recorded.args for recorded in jobs.performed_jobs} <= {(str(number),)}
"""


@pytest.mark.processes
def test_pytest_xdist_runs_them_in_two_processes(tmp_path):
    (tmp_path / "test_small.py").write_text(SMALL)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TEST_", "PYTEST_"))}

    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            str(tmp_path),
            "-n",
            "2",
            "-q",
            "-p",
            "jobs.testing",
            "-p",
            "no:cacheprovider",
        ],
        env={**environment, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert "12 passed" in ran.stdout, ran.stdout + ran.stderr
