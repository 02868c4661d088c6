"""Once a week, whoever has worked hears how it went."""

from datetime import UTC, date, datetime, timedelta

import pytest
from django.core import mail
from django.utils import timezone

from jiki.commands.send_progress_email import SendProgressEmail
from jiki.commands.send_progress_emails import SPREAD, SendProgressEmails
from jiki.models import Exercise, ProgressOptOut
from jiki.weeks import days_of
from jobs.testing import assert_idempotent
from users.models import User

pytestmark = pytest.mark.django_db

WEEK = date(2026, 3, 2)  # a Monday
IN_IT = datetime(2026, 3, 8, 23, 59, tzinfo=UTC)


@pytest.fixture
def monday_after(monkeypatch):
    monkeypatch.setattr(timezone, "localdate", lambda: WEEK + timedelta(days=7))


def test_whoever_worked_in_the_week_before_gets_one_and_they_are_spread(
    pupil, stranger, loops, hand_in, jobs, monday_after
):
    gone = User.objects.create_user("gone@example.org", is_active=False)
    for user, at in (
        (pupil, datetime(2026, 3, 2, tzinfo=UTC)),
        (pupil, IN_IT),
        (gone, IN_IT),
        (stranger, datetime(2026, 3, 9, tzinfo=UTC)),
        (stranger, datetime(2026, 3, 1, 23, 59, tzinfo=UTC)),
    ):
        hand_in(user, loops, created_at=at)
    others = [User.objects.create_user(f"{number}@example.org") for number in range(3)]
    for user in others:
        hand_in(user, loops, created_at=IN_IT)

    assert SendProgressEmails.run() == 4
    queued = jobs.enqueued_jobs
    assert {job.args[0] for job in queued} == {pupil, *others}
    assert {job.args[1] for job in queued} == {WEEK}
    times = sorted(job.at for job in queued)
    assert times[-1] - times[0] == SPREAD * 3 / 4


def test_it_names_what_was_passed_in_that_week_each_once(pupil, stranger, loops, hand_in):
    lists = Exercise.objects.create(slug="lists", title="Lists & more", text="", checks="", position=1)
    earlier = Exercise.objects.create(slug="first", title="First", text="", checks="", position=2)
    hand_in(pupil, earlier, created_at=IN_IT - timedelta(days=9))
    for of in (loops, lists, loops):
        hand_in(pupil, of, created_at=IN_IT)
    hand_in(pupil, earlier, passed=False, created_at=IN_IT)
    hand_in(stranger, earlier, created_at=IN_IT)
    SendProgressEmail.run(pupil, WEEK)

    text = str(mail.outbox[0].body)
    assert "You passed 2 exercises last week:\n\n- Loops\n- Lists & more\n\nThat makes 3 in all." in text
    assert "<li>Lists &amp; more</li>" in str(mail.outbox[0].alternatives[0][0])


def test_who_passed_nothing_is_encouraged(pupil, loops, hand_in):
    for _ in range(2):
        hand_in(pupil, loops, passed=False, created_at=IN_IT)
    SendProgressEmail.run(pupil, WEEK)

    assert "You worked on 1 exercise last week." in str(mail.outbox[0].body)


def test_both_can_run_twice(pupil, loops, hand_in, jobs, monday_after):
    hand_in(pupil, loops, created_at=IN_IT)
    assert_idempotent(SendProgressEmail, pupil, WEEK)
    assert_idempotent(SendProgressEmails)
    jobs.travel(timedelta(hours=3))

    assert len(mail.outbox) == 1


def test_who_wants_none_gets_none_even_if_it_was_deferred_before(pupil, stranger, loops, hand_in, jobs, monday_after):
    hand_in(pupil, loops, created_at=IN_IT)
    hand_in(stranger, loops, created_at=IN_IT)
    ProgressOptOut.objects.create(user=stranger)
    assert SendProgressEmails.run() == 1
    ProgressOptOut.objects.create(user=pupil)
    jobs.travel(3 * 3_600)

    assert mail.outbox == []


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_a_week_is_seven_days_of_the_project_even_when_the_clock_changes(zone):
    with timezone.override(zone):
        begin, end = days_of(date(2026, 3, 23))  # the 29th has 23 hours in Berlin
        assert (timezone.localtime(begin).hour, timezone.localtime(end + timedelta(microseconds=1)).hour) == (0, 0)
        assert (end - begin) > timedelta(days=6, hours=22)
