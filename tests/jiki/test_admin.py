"""Exercises, submissions and batches in the admin."""

from types import SimpleNamespace

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse

from jiki import lost
from jiki.commands.process_submission import ProcessSubmission
from jiki.commands.recheck_batch import RecheckBatch
from jiki.commands.start_batch import StartBatch
from jiki.models import Batch, Exercise
from jobs import control, inspection
from jobs.worker.connection import Wire
from jobs.worker.recovery import recover
from tests.jobs.conftest import InlineWorker
from users.models import User

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(client):
    client.force_login(User.objects.create_superuser("admin@example.org"))
    return client


def act(client, model, action, *objects):
    url = reverse(f"admin:jiki_{model}_changelist")
    return client.post(url, {"action": action, "_selected_action": [each.pk for each in objects]}, follow=True)


@pytest.mark.parametrize("model", ["exercise", "submission", "batch"])
def test_the_lists_and_the_pages_are_there(model, staff, exercise, submit):
    shown = {"exercise": exercise, "submission": submit(), "batch": Batch.objects.create(exercise=exercise)}[model]

    assert "Adding" in staff.get(reverse(f"admin:jiki_{model}_changelist")).content.decode()
    assert staff.get(reverse(f"admin:jiki_{model}_change", args=[shown.pk])).status_code == 200


def test_an_exercise_is_added_and_broken_checks_are_refused(staff):
    fields = {"slug": "x", "title": "X", "text": "x", "checks": "def check_x(:", "position": 1}
    refused = staff.post(reverse("admin:jiki_exercise_add"), fields)
    assert "This is not valid Python" in refused.content.decode()

    staff.post(reverse("admin:jiki_exercise_add"), fields | {"checks": "def check_x(): pass"})

    assert Exercise.objects.get(slug="x").title == "X"


def test_what_has_happened_is_not_made_up(staff, submit):
    for model in ("submission", "batch"):
        assert staff.get(reverse(f"admin:jiki_{model}_add")).status_code == 403
    page = staff.get(reverse("admin:jiki_submission_change", args=[submit().pk])).content.decode()
    assert "solution.py" in page
    assert 'name="_save"' not in page


def test_all_submissions_of_an_exercise_are_checked_again(staff, exercise, submit, jobs):
    submit()
    page = act(staff, "exercise", "check_again", exercise)
    batch = Batch.objects.get()
    assert "Submissions of “Adding” to check again: 1." in page.content.decode()
    assert batch.started_by.email == "admin@example.org"
    jobs.assert_enqueued_with(RecheckBatch, args=[batch.pk])
    assert "0 of 1 (0 %)" in staff.get(reverse("admin:jiki_batch_changelist")).content.decode()

    jobs.perform_enqueued_jobs()

    listed = staff.get(reverse("admin:jiki_batch_changelist")).content.decode()
    assert "1 of 1 (100 %)" in listed
    assert "finished" in listed


def test_a_batch_that_has_stopped_goes_on(staff, exercise, jobs):
    stopped = Batch.objects.create(exercise=exercise, state="stopped", reached=5, last=9)
    finished = Batch.objects.create(exercise=exercise, state="finished")
    act(staff, "batch", "go_on", stopped, finished)

    jobs.assert_enqueued_jobs(1)
    jobs.assert_enqueued_with(RecheckBatch, args=[stopped.pk])


def poison(job, worker):
    """Let its worker die three times."""
    for _ in range(3):
        worker.claim()
        worker.fetch.held.clear()
        recover(Wire("background"), "background", only="inline")


ENDS = {
    "dead": poison,
    "cancelled": lambda job, worker: control.cancel(job),
    "gone": lambda job, worker: control.delete(job),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("end", ENDS)
def test_a_batch_whose_job_has_ended_says_so_and_goes_on(end, staff, exercise, submit, valkey):
    submit()
    worker = InlineWorker()
    batch = StartBatch.run(exercise, User.objects.get(is_staff=True))
    page = reverse("admin:jiki_batch_change", args=[batch.pk])
    assert "Continue" not in staff.get(page).content.decode()
    job = inspection.find(batch.job_id)
    ENDS[end](job, worker)

    for shown in (staff.get(page), staff.get(reverse("admin:jiki_batch_changelist"))):
        text = shown.content.decode()
        if end == "gone":
            assert "stopped: its job is gone" in text
        else:
            assert f'stopped: <a href="{reverse("admin:jobs_job", args=[job.id])}">its job</a> is {end}' in text
    assert "Continue" in staff.get(page).content.decode()

    act(staff, "batch", "go_on", batch)
    text = staff.get(page).content.decode()
    assert "stopped" not in text
    assert "Continue" not in text
    worker.run()
    batch.refresh_from_db()
    assert (batch.state, batch.done) == ("finished", 1)


@pytest.mark.django_db(transaction=True)
def test_a_batch_is_shown_when_redis_is_away(staff, exercise, monkeypatch, caplog):
    def away(job_id):
        raise ConnectionError

    batch = Batch.objects.create(exercise=exercise, job_id="x")
    monkeypatch.setattr(lost, "inspection", SimpleNamespace(find=away))

    assert "running" in staff.get(reverse("admin:jiki_batch_change", args=[batch.pk])).content.decode()
    assert "was not read" in caplog.text


def test_only_who_may_start_a_batch_is_offered_to_go_on(client, exercise):
    viewer = User.objects.create_user("viewer@example.org", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename="view_batch"))
    client.force_login(viewer)
    batch = Batch.objects.create(exercise=exercise, state="stopped")
    page = reverse("admin:jiki_batch_change", args=[batch.pk])
    assert "Continue" not in client.get(page).content.decode()

    viewer.user_permissions.add(Permission.objects.get(codename="add_batch", content_type__app_label="jiki"))
    assert "Continue" in client.get(page).content.decode()


def test_a_submission_is_checked_again(staff, submit, jobs):
    submission = submit()
    act(staff, "submission", "check_again", submission)

    jobs.assert_enqueued_with(ProcessSubmission, args=[submission.pk])


def test_only_who_may_can_start_a_batch(client, exercise):
    viewer = User.objects.create_user("viewer@example.org", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__in=["view_exercise", "change_exercise"]))
    client.force_login(viewer)

    act(client, "exercise", "check_again", exercise)

    assert not Batch.objects.exists()
