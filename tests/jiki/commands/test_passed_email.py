"""One mail about what a learner has passed, however many exercises she passes in a row."""

from datetime import timedelta

import pytest
from django.core import mail
from django.utils import timezone

from jiki.commands.process_submission import ProcessSubmission
from jiki.commands.send_passed_email import SendPassedEmail
from jiki.models import Exercise, ProgressOptOut
from jobs.testing import assert_idempotent, within
from tests.jiki.conftest import WRONG

pytestmark = pytest.mark.django_db


def test_exercises_that_are_passed_in_a_row_share_a_mail(submit, exercise, jobs):
    other = Exercise.objects.create(slug="more", title="More & more", text="", checks=exercise.checks)
    for submission in (submit(), submit(exercise=other), submit(WRONG), submit()):
        ProcessSubmission.defer(submission.pk)
    jobs.perform_enqueued_jobs()

    jobs.assert_enqueued_jobs(1, only=SendPassedEmail)
    jobs.assert_enqueued_with(
        SendPassedEmail, queue="mailers", at=within(30).of(timezone.now() + timedelta(minutes=10))
    )
    jobs.travel(timedelta(minutes=11))
    (message,) = mail.outbox
    assert message.subject == "You passed 2 exercises"
    assert "\n- Adding\n- More & more\n\nContinue here:" in str(message.body)


def test_what_is_passed_later_has_a_mail_of_its_own_and_what_failed_has_none(submit, exercise, jobs):
    ProcessSubmission.defer(submit().pk)
    jobs.perform_enqueued_jobs()
    jobs.travel(timedelta(minutes=11))
    other = Exercise.objects.create(slug="more", title="More", text="", checks=exercise.checks)
    ProcessSubmission.defer(submit(exercise=other).pk)
    ProcessSubmission.defer(submit(WRONG).pk)
    jobs.perform_enqueued_jobs()
    jobs.travel(timedelta(minutes=11))

    assert [message.subject for message in mail.outbox] == ["You passed Adding", "You passed More"]


def test_each_learner_has_her_own(submit, stranger, jobs):
    for submission in (submit(), submit(user=stranger)):
        ProcessSubmission.defer(submission.pk)
    jobs.perform_enqueued_jobs()
    jobs.travel(timedelta(minutes=11))

    assert sorted(to for message in mail.outbox for to in message.to) == ["ada@example.org", "stranger@example.org"]


def test_who_has_ended_progress_mails_gets_none(pupil, loops, hand_in):
    ProgressOptOut.objects.create(user=pupil)
    SendPassedEmail.run(pupil, hand_in(pupil, loops).pk)
    assert mail.outbox == []


def test_it_can_run_twice_and_says_nothing_about_what_is_gone(pupil, stranger, loops, hand_in):
    first = hand_in(pupil, loops)
    hand_in(stranger, loops)
    assert_idempotent(SendPassedEmail, pupil, first.pk)
    assert len(mail.outbox) == 1
    first.delete()
    SendPassedEmail.run(pupil, first.pk or 1_000)
    assert len(mail.outbox) == 1
