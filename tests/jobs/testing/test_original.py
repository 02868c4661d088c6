"""The five test examples of the original document, translated one to one."""

import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from django.utils import timezone

from jobs import MandateJob
from jobs.testing import within
from tests.sample.commands.original import MyCommand, ProcessSubmission, SyncData
from tests.sample.models import Note


def test_enqueues_job_with_correct_arguments(jobs):
    with jobs.assert_enqueued_with(ProcessSubmission, args=(123,), queue="critical"):
        ProcessSubmission.defer(123)


def test_enqueues_job_with_delay(jobs):
    with jobs.assert_enqueued_with(
        MyCommand, args=("arg",), queue="default", at=within(1).of(timezone.now() + timedelta(minutes=5))
    ):
        MyCommand.defer("arg", wait=timedelta(minutes=5))


@pytest.mark.django_db
def test_processes_submission_correctly(jobs):
    submission = Note.objects.create(text="submitted")

    with jobs.perform_enqueued_jobs():
        ProcessSubmission.defer(submission.pk)

    submission.refresh_from_db()
    assert submission.text == "processed"


@pytest.fixture
def busy_api():
    """An API that answers 429, with Retry-After: 30."""

    class Busy(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(429)
            self.send_header("Retry-After", "30")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Busy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_requeues_on_rate_limit(jobs, busy_api):
    with jobs.assert_enqueued_jobs(2), jobs.perform_enqueued_jobs():  # the original, and the requeued
        SyncData.defer(busy_api)


def test_waits_for_prerequisite_job_to_complete(jobs):
    job_in_queue = MyCommand.defer()

    with pytest.raises(MandateJob.PreqJobNotFinishedError, match=f"Unfinished job: {job_in_queue.id}"):
        MandateJob.perform_now("sample.MyCommand", prereq_jobs=[job_in_queue])
