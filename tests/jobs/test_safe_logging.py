"""What the package does comes first, and telling of it after: what raises meanwhile costs a line."""

import logging

import pytest

from jobs.attempts.claim import Claim
from jobs.attempts.outcomes import Dead
from jobs.safe_logging import safe_logger
from jobs.worker.fetch import Fetch
from jobs.worker.scoreboard import Board
from jobs.worker.threads import JobThread
from tests.sample.commands.notes import WriteNote
from tests.sample.commands.trouble import Trouble
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True)


class Raising(logging.Filter):
    def filter(self, record):
        raise AttributeError("'NoneType' object has no attribute 'user'")


@pytest.fixture
def raising():
    """A filter on the package's logger, and a handler, that raise at every line."""
    known, bad = logging.getLogger("jobs"), Raising()
    handler = logging.Handler()
    handler.emit = lambda record: 1 / 0
    level = known.level
    known.addFilter(bad)
    known.setLevel(logging.DEBUG)
    logging.getLogger().addHandler(handler)
    yield
    known.removeFilter(bad)
    known.setLevel(level)
    logging.getLogger().removeHandler(handler)


def test_a_job_that_did_its_work_has_finished(raising, worker, capsys):
    job = WriteNote.defer("x")
    worker.run()

    assert (job.state, worker.attempts, Note.objects.count()) == ("finished", 1, 1)
    assert "this could not be logged: performed %s in %.0f ms" in capsys.readouterr().err


@pytest.mark.parametrize("handler", [True, False])
def test_a_job_that_failed_is_retried(handler, raising, worker):
    if handler:
        logging.getLogger("jobs").filters.clear()
    job = Trouble.defer("retried")
    worker.run()

    assert (job.state, job.reason, worker.attempts) == (
        "retrying",
        "TroubleError: retried",
        1,
    ) or job.state == "retrying"


class Untold(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class Untraced(Exception):
    @property
    def __notes__(self):
        raise SystemExit


@pytest.mark.parametrize("error", [Untold(), Untraced(), Untraced(Untold())])
def test_an_error_whose_text_or_traceback_cannot_be_made_is_a_failure_as_any(error, worker, monkeypatch):
    def call(self):
        raise error

    monkeypatch.setattr(WriteNote, "call", call)
    job = WriteNote.defer("x")
    worker.run()

    assert job.state == "retrying"
    assert job.reason.startswith(type(error).__qualname__)


@pytest.mark.parametrize("progress", [b'{"failures": 7}', b'{"since": []}', b'{"since": {"command": "x"}}', b"[", b"7"])
def test_progress_that_cannot_be_read_makes_the_job_dead(progress, worker, monkeypatch):
    monkeypatch.setattr(WriteNote, "call", lambda self: 1 / 0)
    job = WriteNote.defer("x")
    job.connection.hset(job.key, mapping={"progress": progress, "more": 1})
    worker.run()

    assert (job.state, job.reason[:19]) == ("dead", "unreadable progress")


def test_whatever_raises_around_an_attempt_its_thread_hands_an_outcome_over(valkey):
    class Once(Fetch):
        claims = [Claim([b"a", b"default", b"w1.0", b"[]", b"", b"", b"", 0])]

        def take(self):
            return self.claims.pop() if self.claims else None

    handed = []
    fetch = Once("w1", {"default": None}, threads=1, board=Board(1), blocks=True, release=str)
    fetch.commits.add = lambda claim, outcome, command, seconds: handed.append((claim.job_id, outcome))

    def attempt(claim, thread):
        raise SystemExit("of a tracer's")

    thread = JobThread(0, fetch, Board(1), attempt, ended=lambda: None)
    thread.start()
    thread.join()

    ((job_id, outcome),) = handed
    assert (job_id, type(outcome)) == ("a", Dead)
    assert outcome.reason == "its outcome could not be made: SystemExit: of a tracer's"


def test_a_line_is_a_line_whatever_an_error_says(caplog):
    said = safe_logger("jobs.test")
    said.warning("it failed: %s", ValueError("x\n2026-01-01 00:00:00 INFO jobs: all is well\x1b[2J\u2028"))
    said.warning("%s of %.1f in %r", "a\rb", 1.5, "\n")

    assert [record.getMessage() for record in caplog.records] == [
        "it failed: x\\n2026-01-01 00:00:00 INFO jobs: all is well\\x1b[2J\\u2028",
        r"a\rb of 1.5 in '\\n'",
    ]
    assert caplog.records[0].filename == "test_safe_logging.py"
