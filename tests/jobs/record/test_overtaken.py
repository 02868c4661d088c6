"""A job whose prerequisite is written by another thread, runs and is forgotten, while the job is written."""

import threading
from contextlib import contextmanager
from math import inf

import pytest
from django.db import transaction

from jobs import queues
from jobs.broker.connections import get_connection
from jobs.worker.connection import Wire
from jobs.worker.release import release_the_left
from tests.sample.commands.notes import WriteNote
from tests.sample.commands.waiting import Forget

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def other_thread():
    """
    A thread that has deferred a job in an open transaction, `thread.job`. `thread.commit()` lets it commit, and waits
    until the job is written; `thread.end()` until the thread has ended.
    """

    class Thread(threading.Thread):
        def __init__(self):
            super().__init__()
            self.job, self.error = None, None
            self.deferred, self.may_commit, self.written = threading.Event(), threading.Event(), threading.Event()
            self.may_note = threading.Event()

        def run(self):
            with transaction.atomic():
                self.job = Forget.defer()
                self.deferred.set()
                assert self.may_commit.wait(20)

        def commit(self):
            self.may_commit.set()
            assert self.written.wait(20)

        def end(self):
            self.may_note.set()
            self.join(20)

    thread = Thread()
    thread.start()
    assert thread.deferred.wait(20)
    try:
        yield thread
    finally:
        thread.may_commit.set()
        thread.end()


@pytest.fixture
def other(monkeypatch):
    """`other_thread`, which stops between the answer of the server and its note that the job is written."""
    settle = queues._settle

    def stop(pairs, *answer):
        thread = threading.current_thread()
        if hasattr(thread, "may_note"):
            thread.written.set()
            assert thread.may_note.wait(20)
        return settle(pairs, *answer)

    monkeypatch.setattr(queues, "_settle", stop)
    with other_thread() as thread:
        yield thread


def forgotten(job, worker):
    worker.run()
    assert not get_connection("default").exists(job.key)


def released(job, worker):
    wire = Wire("default")
    release_the_left(wire, get_connection("default"), inf)
    wire.close()
    worker.run()
    return job.state == "finished" and not get_connection("default").keys("jobs:[rwdfl]*:*-*")


@pytest.mark.parametrize("failure", ["wait", "run"])
def test_the_other_thread_notes_it_before_the_job_is_written(failure, other, worker, monkeypatch):
    run = queues.run_script

    def run_late(*args, **options):
        if threading.current_thread() is not other and not other.written.is_set():
            other.commit()
            other.end()
            forgotten(other.job, worker)
        return run(*args, **options)

    monkeypatch.setattr(queues, "run_script", run_late)
    job = WriteNote.defer("after", prereq_jobs=[other.job], prereq_failure=failure)

    assert released(job, worker)


@pytest.mark.parametrize("failure", ["wait", "run"])
def test_the_other_thread_notes_it_after_the_job_is_written(failure, other, worker):
    other.commit()
    forgotten(other.job, worker)
    job = WriteNote.defer("after", prereq_jobs=[other.job], prereq_failure=failure)
    assert job.state == "blocked"
    other.end()

    assert released(job, worker)


def test_one_that_has_not_run_yet_is_waited_for(other, worker):
    other.commit()
    job = WriteNote.defer("after", prereq_jobs=[other.job])
    other.end()
    assert job.state == "waiting"
    worker.run()

    assert released(job, worker)


def test_one_that_was_deleted_meanwhile_blocks(other, worker):
    other.commit()
    job = WriteNote.defer("after", prereq_jobs=[other.job])
    other.job.delete()
    other.end()

    assert not released(job, worker)
    assert job.state == "blocked"
