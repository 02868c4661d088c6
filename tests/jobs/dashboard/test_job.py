"""The page of one job: its lanes, its traceback, its return value, the jobs around it, and its buttons."""

import re
import time
from datetime import UTC, datetime, timedelta

import pytest

from jobs import control
from jobs.broker.connections import get_connection
from jobs.cli.output import harmless
from jobs.dashboard import dependencies, tracebacks, waterfall
from jobs.inspection.timeline import Step
from jobs.job import JobState
from jobs.record import display
from tests.jobs.dashboard.pages import count_trips, text, url
from tests.sample.commands.collapsing import Save
from tests.sample.commands.notes import Fail, KeepSecret, WriteNote
from tests.sample.commands.waiting import Measure

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


def at(seconds):
    return NOON + timedelta(seconds=seconds)


def attempt(name, begun, ended):
    return Step(name=name, at=at(begun), is_attempt=True, ended=None if ended is None else at(ended))


def drawn(lane):
    return [float(each) for each in re.findall(r'(?:x|width)="([\d.]+)%"', lane.bar)]


# --- lanes -----------------------------------------------------------------------------------


def test_lanes_lie_where_the_steps_are_between_first_and_last():
    steps = [Step(name="queued", at=at(0)), attempt("failed", 10, 20), Step(name="retried", at=at(20))]
    steps.append(attempt("finished", 60, 100))
    lanes = waterfall.lanes(steps, JobState.FINISHED, at(500), None)
    assert [(lane.attempt, lane.seconds) for lane in lanes] == [(0, 10), (1, 10), (0, 40), (2, 40)]
    assert [drawn(lane) for lane in lanes] == [[0, 10], [10, 10], [20, 40], [60, 40]]


def test_what_has_not_ended_reaches_until_now_or_until_it_is_due():
    running = [Step(name="queued", at=at(0)), attempt("running", 10, None)]
    assert [drawn(lane) for lane in waterfall.lanes(running, JobState.RUNNING, at(20), None)] == [[0, 50], [50, 50]]
    retrying = [attempt("failed", 0, 10), Step(name="retried", at=at(10))]
    assert waterfall.lanes(retrying, JobState.RETRYING, at(20), at(100))[1].seconds == 90


def test_short_attempts_and_equal_times_can_be_seen():
    steps = [Step(name="queued", at=at(0)), attempt("failed", 0, 0)]
    assert [drawn(lane)[1] > 0 for lane in waterfall.lanes(steps, JobState.DEAD, at(0), None)] == [True, True]
    assert waterfall.lanes([], None, at(0), None) == []


# --- tracebacks ------------------------------------------------------------------------------

TRACEBACK = """Traceback (most recent call last):
  File "/srv/venv/lib/python3.12/site-packages/jobs/execution.py", line 73, in attempt
    result = finished(command, run(claim, command.call))
             ^^^^^^^^
  File "/srv/app/ops/commands/work.py", line 37, in call
    deliver(self.user.email)
  File "/srv/app/ops/mail.py", line 21, in deliver
    smtp()
  [Previous line repeated 3 more times]
  File "/usr/lib/python3.12/smtplib.py", line 9, in connect
    raise OSError
OSError: no route
to the host
"""


def test_own_frames_are_told_from_those_of_libraries():
    parts = tracebacks.parts(TRACEBACK)
    assert [(part.kind, part.frames) for part in parts] == [
        ("text", 0),
        ("library", 1),
        ("own", 2),
        ("library", 1),
        ("text", 0),
    ]
    assert "repeated 3 more" in parts[2].text
    assert "".join(part.text for part in parts) == TRACEBACK


@pytest.mark.parametrize("odd", ["", "no traceback", '  File "', "x\n\n  y", 'File "\\jobs\\x.py", line 1'])
def test_any_text_is_a_traceback(odd):
    assert "".join(part.text for part in tracebacks.parts(odd)) == odd


# --- on the page -----------------------------------------------------------------------------

pages = pytest.mark.django_db(transaction=True)


@pages
def test_the_last_traceback_is_open_and_libraries_are_folded(admin_client, worker):
    job = Fail.defer("bad luck")
    worker.run()
    page = admin_client.get(url("job", job.id))
    ((number, step, parts),) = page.context["tracebacks"]
    assert [part.kind for part in parts] == ["text", "library", "own", "text"]
    assert step.reason == "RuntimeError: bad luck"
    assert f'<details class="jobs-library" id="jobs-library-{number}-2">' in page.content.decode()


@pages
def test_a_finished_job_shows_what_it_returned(admin_client, worker):
    job = WriteNote.defer("x")
    worker.run()
    client = get_connection("default")
    (entry,) = client.xrange(f"rq:results:{job.id}")

    def returned(value):
        client.delete(f"rq:results:{job.id}")
        client.xadd(f"rq:results:{job.id}", {**entry[1], b"return_value": value})
        return admin_client.get(url("job", job.id)).context["returned"]

    import base64

    assert returned(base64.b64encode(b'{"$record": "users.User:7"}')) == "users.User:7"
    shown = returned(base64.b64encode(b'"' + b"<" * 10_000 + b'"'))
    assert len(shown) < display.RESULT_LENGTH + 100
    assert "<<<" not in text(admin_client, url("job", job.id))
    assert returned(b"no base64") == display.UNREADABLE
    assert returned(base64.b64encode(b"null")) is None


def test_the_result_of_a_private_command_is_not_shown():
    assert display.result("sample.KeepSecret", "hunter2") == display.FILTERED
    assert display.result("sample.WriteNote", "hunter2") == "'hunter2'"
    assert KeepSecret.log_arguments is False


@pages
def test_a_private_result_is_filtered_by_name(settings):
    settings.JOBS = {**settings.JOBS, "FILTERED_FIELDS": ["token"]}
    assert display.result("sample.WriteNote", {"token": "abc", "x": [1]}) == "{'token': [filtered], 'x': [1]}"


@pages
def test_the_culprit_is_marked_two_layers_up(admin_client, worker):
    dead = Fail.defer()
    middle = WriteNote.defer("x", prereq_jobs=[dead])
    last = WriteNote.defer("y", prereq_jobs=[middle])
    worker.run()
    page = admin_client.get(url("job", last.id))
    graph = page.context["graph"]
    assert {node.id: (node.layer, node.is_culprit) for node in graph.nodes} == {
        last.id: (0, False),
        middle.id: (-1, False),
        dead.id: (-2, True),
    }
    assert graph.edges == [(middle.id, last.id), (dead.id, middle.id)]
    assert "blocks this job" in page.context["drawing"]
    assert f'href="{url("job", dead.id)}"' in page.context["drawing"]
    assert not admin_client.get(url("job", dead.id)).context["graph"].culprits


@pages
def test_more_than_some_jobs_are_a_list(admin_client):
    first = [WriteNote.defer(str(number), wait=60) for number in range(dependencies.DRAWN)]
    last = WriteNote.defer("y", prereq_jobs=first)
    page = admin_client.get(url("job", last.id))
    assert page.context["drawing"] == ""
    assert all(url("job", job.id) in page.content.decode() for job in first)


@pages
def test_odd_links_break_no_page(admin_client):
    one = WriteNote.defer("x", wait=60)
    job = WriteNote.defer("y", prereq_jobs=[one])
    client = get_connection("default")
    client.hset(one.key, "prereqs", "{[")
    assert admin_client.get(url("job", job.id)).status_code == 200
    client.delete(one.key)
    client.set(one.key, "no hash")
    assert admin_client.get(url("job", job.id)).status_code == 200
    client.delete(one.key)
    assert "no record" in text(admin_client, url("job", job.id))


@pages
def test_a_running_job_shows_since_when_where_and_its_stack(admin_client, worker):
    job = WriteNote.defer("x")
    worker.claim()
    page = admin_client.get(url("job", job.id))
    assert page.context["running"].worker == "inline"
    assert "Running for" in page.content.decode()
    stacks = f"12:00 UTC\nThread a, job other in low\n  secret\nThread b, job {job.id} in default\n  File x\n"
    get_connection("default").set("jobs:stacks:inline", stacks)
    assert page.context["running"].stack == ""
    assert admin_client.get(url("job", job.id)).context["running"].stack == (
        f"12:00 UTC\nb, job {job.id} in default\n  File x\n"
    )


@pages
def test_controls_of_direction_are_shown_as_marks(admin_client, worker):
    job = Fail.defer("abc\u202edef")
    worker.run()
    for address in (
        url("job", job.id),
        url("list", "dead"),
        url("list", "dead") + "?group=error",
        url("job_edit", job.id),
    ):
        page = text(admin_client, address)
        assert "\u202e" not in page or address == url("job_edit", job.id)  # in a field it is what it is
    assert "\u27e8U+202E\u27e9" in text(admin_client, url("job", job.id))
    assert harmless("abc\u2066\u061c\x1b") == "abc\u27e8U+2066\u27e9\u27e8U+061C\u27e9\ufffd"


@pages
@pytest.mark.parametrize("state", ["dead", "blocked", "running"])
def test_a_job_takes_at_most_15_round_trips(state, admin_client, worker, monkeypatch, one_minute):
    job = Fail.defer()
    others = WriteNote.defer_many([(str(number),) for number in range(20)], prereq_jobs=[job])
    if state == "running":
        job = WriteNote.defer("x")
        control.move(job, "critical")
        worker.claim()
    else:
        worker.run()
    page = url("job", others[0].id if state == "blocked" else job.id)
    text(admin_client, page)
    made = count_trips(monkeypatch)
    text(admin_client, page)
    assert len(made) <= 15


@pages
def test_a_job_that_others_have_collapsed_into_says_so_on_its_page_and_in_lists(admin_client, worker):
    job = Save.defer(7, "x")
    assert "collapsed" not in text(admin_client, url("list", "scheduled"))
    Save.defer_many([(7, str(number)) for number in range(14)])

    page = text(admin_client, url("job", job.id))
    assert "collapsed" in page and "14 times" in page
    assert "Put off until, at most" in page and "jobs:collapse:sample.Save:" in page
    assert "14 more jobs collapsed into it" in text(admin_client, url("list", "scheduled"))
    assert admin_client.get(url("api_job", job.id)).json()["history"][1]["reason"] == "14 times"
    worker.hurry().run()
    assert "14 times" in text(admin_client, url("job", job.id))


@pages
def test_the_last_hour_of_the_command_is_on_the_page(admin_client, worker):
    job = Fail.defer("x")
    assert "This command, last hour" not in text(admin_client, url("job", job.id))
    worker.run()
    minute, client = int(time.time()) // 60, get_connection("default")
    for outcome, number in {"default|sample.Fail|finished|20": 18, "low|sample.Fail|dead|20": 1}.items():
        client.hincrby(f"jobs:counts:{minute - 3}", outcome, number)
    client.hincrby(f"jobs:counts:{minute - 3}", "default|sample.WriteNote|dead|20", 9)
    for days in (1, 2):
        client.hset(f"jobs:digest:{minute // 60 - 24 * days}", "command|sample.Fail", "100 4 1 0.1 0.26 9 0")
    page = text(admin_client, url("job", job.id)).partition("This command, last hour")[2].partition("</section>")[0]
    assert '<b>Failing 10 %</b> <small>20 attempts, <span class="jobs-nowrap">usually 4 %</span></small>' in page
    assert '<b>Run time 1 s</b> <small>95th percentile, <span class="jobs-nowrap">usually 260 ms</span></small>' in page
    assert page.count('<svg class="jobs-trend') == 2


# --- progress --------------------------------------------------------------------------------


@pages
def test_the_last_report_is_shown_with_a_bar(admin_client, worker):
    job = Measure.defer(1_200)
    page = url("job", job.id)
    assert "<h2>Progress</h2>" not in text(admin_client, page)
    worker.run()
    shown = text(admin_client, page)
    assert '<progress class="jobs-progress" max="100" value="100"' in shown
    assert "1,200 of 1,200 (100 %), counting" in shown
    get_connection("default").hset(job.key, "report", b"\xff{odd")
    assert "<h2>Progress</h2>" not in text(admin_client, page)
