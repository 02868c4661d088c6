"""The original's patterns: an API that limits its callers, and a batch that goes on slice by slice."""

import inspect
import re
import socket
import struct
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jobs import queues
from jobs.broker.connections import get_connection
from jobs.errors import RedisUnavailableError
from jobs.job import JobState
from tests.sample.commands import patterns
from tests.sample.commands.notes import WriteNote
from tests.sample.commands.patterns import FetchExercise, ProcessBatch
from tests.sample.models import Batch, Submission

pytestmark = pytest.mark.django_db(transaction=True)

HOWTO = Path(__file__).resolve().parents[2] / "docs/howto"


# --- an API that limits its callers ----------------------------------------------------------


class Api(ThreadingHTTPServer):
    """Answers as it is told, in turn: `answers = [(429, {"Retry-After": "30"}), "reset", (200, {})]`."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = []
        self.url = f"http://127.0.0.1:{self.server_port}/exercises/3"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        answer = self.server.answers.pop(0)
        if answer == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        status, headers = answer
        body = b"Loops"
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value() if callable(value) else value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def api(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Api() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def wait_of(job):
    return get_connection("default").zscore("rq:scheduled:default", job.id) - time.time()


def in_seconds(seconds):
    return formatdate(time.time() + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("answer", "shortest", "longest"),
    [
        ((429, {"Retry-After": "30"}), 20, 30),
        ((429, {"Retry-After": lambda: in_seconds(90)}), 75, 90),
        ((429, {}), 50, 60),
        ((503, {}), 4, 15),
        ("reset", 4, 15),
    ],
    ids=["seconds", "a date", "no header", "unavailable", "reset"],
)
def test_a_limited_call_is_made_again_when_the_server_says_so_and_else_at_random(
    answer, shortest, longest, api, worker
):
    api.answers = [answer]
    job = FetchExercise.defer(api.url)
    worker.run()

    assert job.state is JobState.SCHEDULED
    assert shortest <= wait_of(job) <= longest
    assert (job.progress.requeues, job.progress.failures) == (1, {})


def test_it_comes_through_as_the_same_job_without_a_retry_and_who_waits_for_it_waits(api, worker):
    api.answers = [(429, {"Retry-After": "30"}), (503, {}), "reset", (429, {"Retry-After": "0"}), (200, {})]
    job = FetchExercise.defer(api.url)
    after = WriteNote.defer("after", prereq_jobs=[job])
    for _ in range(4):
        assert after.state is JobState.WAITING
        worker.hurry().run()

    assert (job.state, job.return_value()) == (JobState.FINISHED, "Loops")
    assert (job.progress.requeues, job.progress.failures) == (4, {})
    assert [event.name for event in job.history].count("requeued") == 4
    assert after.state is JobState.FINISHED


def test_any_other_answer_is_a_failure_and_retried_as_one(api, worker):
    api.answers = [(500, {})]
    job = FetchExercise.defer(api.url)
    worker.run()

    assert job.state is JobState.RETRYING
    assert job.reason.startswith("HTTPStatusError: Server error '500")


# --- a batch that goes on slice by slice -----------------------------------------------------

SUBMISSIONS, LIMIT = 25, 10


@pytest.fixture
def batch():
    batch = Batch.objects.create()
    Submission.objects.bulk_create([Submission(batch=batch)] * SUBMISSIONS)
    return batch


def assert_done_once(batch):
    batch.refresh_from_db()
    assert batch.done == SUBMISSIONS
    assert list(Submission.objects.values_list("processed", flat=True)) == [1] * SUBMISSIONS


def test_each_slice_defers_the_next(batch, worker):
    job = ProcessBatch.defer(batch.pk, limit=LIMIT)
    assert worker.run() == 3
    assert job.state is JobState.FINISHED
    assert_done_once(batch)


def test_a_batch_of_full_slices_ends_too(batch, worker):
    ProcessBatch.defer(batch.pk, limit=5)
    assert worker.run() == 6
    assert_done_once(batch)


@pytest.mark.parametrize("queue", ["critical", "background"])
def test_a_slice_that_is_run_again_goes_on_where_the_batch_is(queue, batch, worker):
    ProcessBatch.defer(batch.pk, limit=LIMIT)
    worker.step()
    again = ProcessBatch.defer(batch.pk, limit=LIMIT, queue=queue)  # before the next one runs, or after
    assert not again.duplicate
    assert worker.run() == 3
    assert_done_once(batch)


def test_a_slice_that_breaks_off_is_undone_and_done_again(batch, worker, monkeypatch):
    job, process = ProcessBatch.defer(batch.pk, limit=LIMIT), patterns.process
    before = Submission.objects.order_by("pk")[4]

    def stumble(submission):
        if submission == before:
            monkeypatch.undo()
            raise RuntimeError("half-way")
        process(submission)

    monkeypatch.setattr(patterns, "process", stumble)
    worker.run()
    assert job.state is JobState.RETRYING
    worker.hurry().run()
    assert_done_once(batch)


def test_redis_that_is_away_at_the_commit_skips_no_slice(batch, worker, monkeypatch):
    job = ProcessBatch.defer(batch.pk, limit=LIMIT)
    write = queues.write

    def away(*args):
        monkeypatch.setattr(queues, "write", write)
        raise RedisUnavailableError("No answer from Redis.")

    monkeypatch.setattr(queues, "write", away)
    worker.run()
    assert job.state is JobState.RETRYING
    worker.hurry().run()
    assert_done_once(batch)


@pytest.mark.processes
@pytest.mark.parametrize(
    "step", ["on the board", "before a push", "after a push", "after the attempt", "after the step is sent"]
)
def test_a_worker_that_is_killed_between_slices_skips_and_repeats_none(step, batch, worker_process, tmp_path):
    marker = tmp_path / "struck"
    job = ProcessBatch.defer(batch.pk, limit=LIMIT)
    worker = worker_process(
        "background",
        burst=True,
        concurrency=1,
        env={
            "DJANGO_SETTINGS_MODULE": "tests.faulty",
            "FAULT": f"{step}:2",
            "FAULT_MARKER": str(marker),
        },
    )
    assert worker.wait() == 0, worker.output
    assert marker.exists(), "the fault never struck"
    assert "was killed by SIGKILL" in worker.output

    assert job.state is JobState.FINISHED
    assert_done_once(batch)


# --- the pages -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "shown"),
    [
        ("requeue.md", [FetchExercise, patterns.seconds]),
        ("process-in-batches.md", [ProcessBatch]),
    ],
)
def test_the_page_shows_what_was_run_here(page, shown):
    text = (HOWTO / page).read_text()
    assert all(inspect.getsource(each) in text for each in shown), re.findall(r"^class .*", text, re.MULTILINE)
