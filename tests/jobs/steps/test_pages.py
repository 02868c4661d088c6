"""How far a job has come: on its page, in the API, in `jobs show` and for the doctor."""

import json
import re
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from jobs import doctor
from jobs.broker.connections import get_connection
from jobs.inspection import job_steps
from tests.jobs.dashboard.pages import url
from tests.jobs.steps.test_steps import Planned, die_in, state_of
from tests.sample.commands.notes import WriteNote
from tests.sample.commands.steps import Plan

pytestmark = pytest.mark.django_db(transaction=True)


def words(answer):
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())


@pytest.fixture
def job(worker, plan, did):
    @plan
    def fail_at_three(command):
        command.step(command.one)
        for number in command.each(range(1_000), total=1_000):
            did.append(number)
            if number == 3:
                raise Planned

    job = Plan.defer("fail_at_three")
    worker.run()
    return job


def test_its_page_shows_steps_with_times_bar_cursor_and_resumptions(admin_client, job):
    shown = words(admin_client.get(url("job", job.id)))
    assert "went on from a checkpoint once" in shown
    assert "one" in shown and "each" in shown and "not ended" in shown
    assert "3 of 1,000" in shown and "at 3" in shown


def test_a_job_without_steps_shows_none(admin_client, worker):
    job = WriteNote.defer("a")
    assert "Begin anew" not in admin_client.get(url("job", job.id)).content.decode()
    assert admin_client.get(f"/admin/jobs/dashboard/api/job/{job.id}/").json()["steps"] is None


def test_its_buttons_ask_first_and_then_begin_anew(admin_client, worker, job, did):
    address = url("job", job.id) + "anew/"
    assert "Have job" in words(admin_client.post(address))
    assert state_of(job).life == 0
    assert "go on from the step each" in words(admin_client.post(address, {"step": "each"}))
    admin_client.post(address, {"step": "each", "confirmed": "1"})
    assert (job.state, state_of(job).life) == ("queued", 1)
    del did[:]
    worker.run()
    assert did == [0, 1, 2, 3]

    admin_client.post(address, {"confirmed": "1"})
    del did[:]
    worker.run()
    assert did == ["one", 0, 1, 2, 3]


def test_a_step_that_is_not_there_is_refused(admin_client, job):
    answer = admin_client.post(url("job", job.id) + "anew/", {"step": "nothing", "confirmed": "1"}, follow=True)
    assert "has no step" in words(answer)


def test_the_api_and_the_command_line_say_the_same(admin_client, job):
    steps = admin_client.get(url("api_job", job.id)).json()["steps"]
    assert [(step["name"], step["done"], step["total"], step["cursor"]) for step in steps["steps"]] == [
        ("one", 0, None, ""),
        ("each", 3, 1_000, "3"),
    ]
    assert (steps["resumed"], steps["begun_anew"]) == (1, 0)

    output = StringIO()
    call_command("jobs", "show", job.id, "--json", stdout=output)
    assert json.loads(output.getvalue())["jobs"][0]["steps"]["steps"][1]["done"] == 3
    output = StringIO()
    call_command("jobs", "show", job.id, stdout=output)
    assert "each: not ended, 3 of 1,000 items" in output.getvalue()


def test_the_command_line_has_jobs_begin_anew(job, worker, did):
    errors = StringIO()
    with pytest.raises(CommandError) as raised:
        call_command("jobs", "begin-anew", job.id, "nothing", "--step", "each", stdout=StringIO(), stderr=errors)
    assert raised.value.returncode == 1 and "There is no record of job nothing." in errors.getvalue()
    assert (job.state, state_of(job).life) == ("queued", 1)
    del did[:]
    worker.run()
    assert did == [0, 1, 2, 3]


def test_cursors_of_private_arguments_are_not_shown(admin_client, job, monkeypatch):
    monkeypatch.setattr(Plan, "log_arguments", False)
    assert admin_client.get(url("api_job", job.id)).json()["steps"]["steps"][1]["cursor"] == ""
    assert "at 3" not in words(admin_client.get(url("job", job.id)))


def test_what_nobody_has_written_is_shown_as_none(job):
    assert job_steps.read(b"{") is None
    assert job_steps.read(b'{"ended": [["a"]], "at": 0, "resumed": 0, "life": 0}') is None
    get_connection("default").hset(job.key, "steps", "[]")
    assert job_steps.as_dict(job) is None


def test_the_doctor_names_a_step_without_checkpoints(worker, plan, did):
    found = []

    @plan
    def slow(command):
        command.step(look)

    def look():
        steps = get_connection("default").hget(job.key, "steps").decode()
        fields = {**json.loads(steps), "at": 1_000_000_000}
        get_connection("default").hset(job.key, "steps", json.dumps(fields))
        found.extend(finding.what for finding in doctor.examine() if "without a checkpoint" in finding.what)

    job = Plan.defer("slow")
    die_in(worker)
    assert len(found) == 1 and found[0].startswith("The step 'look' of sample.Plan runs ")
