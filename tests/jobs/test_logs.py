"""Log lines: the text and fields of each event of a job, and the lines that a job's page shows."""

import json
import logging
import sys

import pytest

from jobs.logs import AttemptLog, JobFilter
from jobs.queues import get_queue
from tests.sample import functions
from tests.sample.commands.limits import Fresh, Once
from tests.sample.commands.notes import Fail, KeepSecret, WriteNote
from tests.sample.commands.talk import Talk
from tests.sample.commands.trouble import Again, Ruled, TroubleTwice

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def lines(caplog):
    """The lines that the logger `jobs` has written since, each with a job's fields: `[("enqueued ...", {...})]`."""
    caplog.set_level(logging.INFO, "jobs")

    def read():
        fields = ("job_id", "command", "queue", "attempt")
        return [
            (record.getMessage(), {name: getattr(record, name, None) for name in fields})
            for record in caplog.records
            if record.name == "jobs"
        ]

    return read


def test_the_life_of_a_job_in_lines(worker, lines):
    job = WriteNote.defer("hello")
    worker.run()

    (enqueued, fields), (performing, _), (performed, last_fields) = lines()
    assert enqueued == f"enqueued to default: sample.WriteNote('hello') (job {job.id})"
    assert fields == {"job_id": job.id, "command": "sample.WriteNote", "queue": "default", "attempt": None}
    assert (
        performing == f"performing sample.WriteNote (job {job.id}, attempt 1) from default: sample.WriteNote('hello')"
    )
    assert performed.startswith(f"performed sample.WriteNote (job {job.id}, attempt 1) in ")
    assert performed.endswith(" ms")
    assert last_fields == {"job_id": job.id, "command": "sample.WriteNote", "queue": "default", "attempt": 1}


ENDS = {
    "retrying": (lambda: TroubleTwice.defer(), "retrying sample.TroubleTwice ({}, attempt 1) in "),
    "dead": (lambda: Fail.defer("x"), "dead: sample.Fail ({}, attempt 1): RuntimeError: x"),
    "discarded": (lambda: Ruled.defer("hopeless"), "discarded sample.Ruled ({}, attempt 1): HopelessError: as planned"),
    "requeued": (lambda: Again.defer(), "requeued sample.Again ({}, attempt 1): again in 30 s"),
}


@pytest.mark.parametrize(("defer", "expected"), ENDS.values(), ids=ENDS)
def test_every_end_has_its_line(defer, expected, worker, lines):
    job = defer()
    worker.run()

    message, fields = lines()[-1]
    assert message.startswith(expected.format(f"job {job.id}"))
    assert fields == {"job_id": job.id, "command": job.command_name, "queue": "default", "attempt": 1}


def test_attempts_are_numbered(worker, lines):
    TroubleTwice.defer()
    for _ in range(3):
        worker.hurry().run()

    said = [message for message, _ in lines() if message.startswith(("retrying", "dead"))]
    assert [("attempt 1" in said[0]), ("attempt 2" in said[1]), ("attempt 3" in said[2])] == [True] * 3


def test_delays_and_duplicates_are_logged(lines):
    Fresh.defer(wait=60)
    first = Once.defer(7)
    Once.defer(7)

    said = [message for message, _ in lines()]
    assert "enqueued to default, due 20" in said[0]
    assert said[2].startswith(f"duplicate of job {first.id}: sample.Once(7) (job ")


def test_private_arguments_are_in_no_line(worker, lines):
    KeepSecret.defer("hunter2")
    worker.run()

    assert len(lines()) == 3
    assert "hunter2" not in str(lines())
    assert "sample.KeepSecret(...)" in lines()[0][0]


def test_no_line_is_built_when_nobody_reads_it(worker, caplog, monkeypatch):
    caplog.set_level(logging.WARNING, "jobs")
    monkeypatch.setattr("jobs.record.display.call", lambda *args: pytest.fail("a line was built"))
    WriteNote.defer("x")
    worker.run()
    assert caplog.records == []


def test_a_filter_names_the_job_on_every_line_logged_inside_call(worker, caplog):
    caplog.set_level(logging.WARNING)
    caplog.handler.addFilter(JobFilter())
    job = Talk.defer(1)
    worker.run()
    logging.getLogger("talk").warning("outside")

    inside, outside = [record for record in caplog.records if record.name == "talk"]
    assert (inside.job_id, inside.command, inside.queue, inside.attempt) == (job.id, "sample.Talk", "default", 1)
    assert inside.job == f" [job {job.id}]"
    assert (outside.job_id, outside.command, outside.job) == (None, None, "")


@pytest.mark.processes
def test_as_json_each_line_is_an_object_with_the_jobs_fields(worker_process):
    job = Talk.defer(1)
    worker = worker_process("default", burst=True, env={"LOG_FORMAT": "json", "LOG_LEVEL": "INFO"})
    assert worker.wait() == 0

    found = [json.loads(line) for line in worker.output.splitlines() if line.startswith("{")]
    (line,) = [line for line in found if line["name"] == "talk"]
    assert line["levelname"] == "WARNING"
    assert line["message"] == "line 0"
    assert [line[name] for name in ("job_id", "command", "queue", "attempt")] == [job.id, "sample.Talk", "default", 1]
    performed = [line for line in found if line["message"].startswith("performed")]
    assert performed[0]["job_id"] == job.id
    assert next(line for line in found if line["message"].startswith("worker "))["job_id"] is None


@pytest.mark.processes
def test_as_text_the_job_stands_behind_a_commands_own_lines(worker_process):
    job = Talk.defer(1)
    worker = worker_process("default", burst=True)
    assert worker.wait() == 0
    assert f"WARNING talk: line 0 [job {job.id}]" in worker.output


def test_defer_many_logs_one_line_a_slice(lines):
    WriteNote.defer_many([("x",)] * 700)
    assert [line for line, _ in lines()] == [
        f"enqueued to default: {count} jobs of sample.WriteNote" for count in (300, 300, 100)
    ]
    WriteNote.defer_many([("x",)] * 2)
    assert len(lines()) == 5
    Once.defer_many([(1,)] * 11)
    assert lines()[-1][0] == "enqueued to default: 11 jobs of sample.Once, 10 of them duplicates"


def test_a_project_without_logging_sees_warnings_of_attempts(monkeypatch, capsys):
    """Python prints warnings for a logger without handlers; the handler that keeps a job's lines must not end that."""
    root, own = logging.getLogger(), logging.getLogger("a.projects.own")
    monkeypatch.setattr(root, "handlers", [AttemptLog()])
    own.info("a detail")
    own.warning("a warning")
    assert capsys.readouterr().err == "a warning\n"

    monkeypatch.setattr(own, "handlers", [logging.NullHandler()])
    own.warning("of a library that wants its lines dropped")
    assert capsys.readouterr().err == ""

    monkeypatch.setattr(own, "handlers", [logging.StreamHandler(sys.stderr)])
    own.warning("once")
    assert capsys.readouterr().err == "once\n"


FORGED = "\n2026-01-01 00:00:00,000 ERROR jobs: forged\r\x1b[2J\ud800"


@pytest.mark.parametrize("handler", ["the job's", "the project's"])
def test_lines_of_a_jobs_own_code_forge_none(handler, caplog):
    try:
        raise ValueError("x" + FORGED)
    except ValueError:
        logging.getLogger("talk").exception("first%s", FORGED if handler == "the job's" else "")
    (record,) = caplog.records
    if handler == "the job's":
        text = AttemptLog().format(record)
    else:
        JobFilter().filter(record)
        text = logging.Formatter("%(message)s").format(record)

    assert "forged" in text
    assert not [line for line in text.splitlines()[1:] if not line.startswith("  ")]
    assert "\x1b" not in text
    assert "\n  Traceback (most recent call last):\n    File" in text


@pytest.mark.processes
@pytest.mark.parametrize("form", ["plain", "json"])
def test_errors_of_jobs_forge_no_line_and_have_no_megabytes(form, worker_process):
    Fail.defer("command" + FORGED[:-1] * 30_000)
    get_queue("default").enqueue(functions.fail_with, "plain" + FORGED * 30_000)
    worker = worker_process("default", burst=True, env={"LOG_FORMAT": form, "LOG_LEVEL": "INFO"})
    assert worker.wait() == 0

    output = worker.log.read_bytes()
    assert len(output) < 500_000
    assert b"\x1b" not in output
    assert not [line for line in output.decode().splitlines() if line.lstrip().startswith("Exception in thread")]
    assert not [line for line in output.decode().splitlines() if line.startswith("2026-01-01")]
    assert b'"arguments"' not in output
    for kind in ("command", "plain"):
        assert f"RuntimeError: {kind}" in output.decode()
    if form == "plain":
        assert output.count(b"\n  Traceback (most recent call last):\n    File") >= 2
