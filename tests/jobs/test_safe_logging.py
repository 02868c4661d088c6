"""What the package does comes first, and telling of it after: what raises meanwhile costs a line."""

import logging
import textwrap
import traceback

import pytest

from jobs.attempts.claim import Claim
from jobs.attempts.outcomes import Dead
from jobs.safe_logging import LONGEST_ARGUMENT, LONGEST_BLOCK, SafeLogger, safe_logger
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
        claims = [Claim([b"a", b"default", b"w1.0", b"[]", b""])]

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


FORGED = "\n2026-01-01 00:00:00 ERROR jobs: forged\r\x1b[2J\x85\u2028\ud800\n\n"


def forging(size=1):
    """An error that forges lines by every text that a traceback shows."""
    source = compile("raise error", "odd\nname", "exec")
    try:
        error = ExceptionGroup("group" + FORGED, [ValueError("x" + FORGED * size), SyntaxError("y" + FORGED)])
        error.add_note(FORGED.strip())
        exec(source, {"error": error})  # noqa: S102
    except ExceptionGroup as caused:
        try:
            raise RuntimeError("z" + FORGED * size) from caused
        except RuntimeError as error:
            return error


def checked(text):
    """The lines of a text, none of which is forged."""
    text.encode()
    _first, *rest = text.split("\n")
    assert len(text.splitlines()) == 1 + len(rest)
    assert all(line.startswith("  ") for line in rest)
    assert not set(text) & set("\r\x1b\x85\u2028")
    return rest


@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize("how", ["error", "tuple", "true"])
def test_a_traceback_keeps_its_lines_and_forges_none(how, size):
    error, records = forging(size), []
    logger = logging.Logger("jobs.test")
    logger.handle = records.append
    try:
        raise error
    except RuntimeError:
        given = {"error": error, "tuple": (type(error), error, error.__traceback__), "true": True}[how]
        SafeLogger(logger, {}).error("dead", exc_info=given)

    (record,) = records
    assert record.exc_info[1] is error  # for error trackers
    rest = checked(logging.Formatter("%(message)s").format(record))
    assert rest[0] == "    + Exception Group Traceback (most recent call last):"
    assert any(line.startswith("  Traceback (most recent call last):") for line in rest) or size > 1
    assert len("\n".join(rest)) < 2 * LONGEST_BLOCK


def test_a_normal_traceback_reads_as_python_writes_it(caplog):
    try:
        raise ValueError("no luck")
    except ValueError as error:
        safe_logger("jobs.test").exception("it failed")
        text = "".join(traceback.format_exception(error))

    assert caplog.records[0].exc_text == textwrap.indent(text, "  ").rstrip("\n")
    assert caplog.records[0].funcName == "test_a_normal_traceback_reads_as_python_writes_it"


def test_a_long_value_is_bounded_and_its_ends_stay(caplog):
    safe_logger("jobs.test").error("failed: %s.", "begin" + "x" * 10_000_000 + "end")

    message = caplog.records[0].getMessage()
    assert len(message) < LONGEST_ARGUMENT + 100
    assert message.startswith("failed: beginxxx")
    assert message.endswith("xxxend.")


def test_a_text_after_a_line_break_keeps_its_lines(caplog):
    safe_logger("jobs.test").error("job %s failed\n%s", "a\nb", "Traceback:\n  File" + FORGED)

    assert checked(caplog.records[0].getMessage())[:2] == ["  Traceback:", "    File"]


def test_a_line_that_cannot_be_logged_forges_none_either(monkeypatch, capsys):
    monkeypatch.setattr("logging.Logger.handle", lambda *args: int("1" + FORGED))
    safe_logger("jobs").error("told: %s", "x")

    assert checked(capsys.readouterr().err.rstrip("\n"))[0] == "  Traceback (most recent call last):"
