"""What each mail says, in its text part and in its HTML part."""

from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest
from django.core import mail
from django.core.mail import EmailMultiAlternatives

from mailers import already_registered, course_imported, data_export, passed, password_reset, progress, welcome
from users.models import User

LOGIN, RESET = "https://jiki.io/login", "https://jiki.io/password-reset/MQ/a-b/?x=1&y=2"

STOP = "https://jiki.io/progress-mails/MQ:1a-b:c_d/"
EXPORT = "https://jiki.io/your-data/WzMsMV0:1a-b:c_d/"

Send = Callable[[User], bool]
MAILS: list[tuple[Send, str, list[str]]] = [
    (lambda user: welcome.send(user, login_url=LOGIN), "Welcome to Jiki", [LOGIN]),
    (
        lambda user: already_registered.send(user, day=date(2026, 3, 1), login_url=LOGIN, reset_url=RESET),
        "You already have a Jiki account",
        [LOGIN, RESET],
    ),
    (
        lambda user: password_reset.send(user, requested_at=datetime(2026, 3, 1, tzinfo=UTC), reset_url=RESET),
        "Choose a new Jiki password",
        [RESET],
    ),
    (lambda user: data_export.send(user, number=3, export_url=EXPORT), "Your Jiki data is ready", [EXPORT]),
    (
        lambda user: progress.send(
            user, week=date(2026, 3, 2), tried=2, passed=["Loops"], passed_ever=5, home_url=LOGIN, stop_url=STOP
        ),
        "Your week on Jiki",
        [LOGIN, STOP],
    ),
    (
        lambda user: passed.send(user, first=7, titles=["Loops & more"], home_url=LOGIN, stop_url=STOP),
        "You passed Loops & more",
        [LOGIN, STOP],
    ),
    (
        lambda user: course_imported.send(
            user, "loops", "Loops & more", flow_id="f", has_succeeded=True, course_url=LOGIN, admin_url=STOP
        ),
        "Loops & more is published",
        [LOGIN],
    ),
]
KINDS = ["welcome", "already_registered", "password_reset", "data_export", "progress", "passed", "course_imported"]


@pytest.mark.django_db
@pytest.mark.parametrize(("send", "subject", "links"), MAILS, ids=KINDS)
def test_a_mail_has_a_text_and_an_html_part_with_its_links(send: Send, subject: str, links: list[str]) -> None:
    user = User.objects.create_user("o'hara@example.org")

    assert send(user)

    (message,) = mail.outbox
    assert isinstance(message, EmailMultiAlternatives)
    assert (message.subject, message.to) == (subject, ["o'hara@example.org"])
    assert message.from_email == "Jiki <hello@jiki.io>"
    ((html, kind),) = message.alternatives
    assert kind == "text/html"
    for link in links:
        assert f"\n{link}\n" in str(message.body)
        assert f'href="{link.replace("&", "&amp;")}"' in str(html)
    assert "&amp;" not in str(message.body)
    assert "&#x27;" not in str(message.body)
    assert message.message()


@pytest.mark.django_db
def test_a_mail_is_sent_once() -> None:
    user = User.objects.create_user("learner@example.org")

    for send, _, _ in MAILS:
        assert [send(user), send(user)] == [True, False]
