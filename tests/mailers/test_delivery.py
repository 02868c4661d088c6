import smtplib
import threading
from collections.abc import Callable

import pytest
from django.core import mail
from django.core.mail import EmailMultiAlternatives
from django.db import connection

from mailers.delivery import AddressRefusedError, send_once
from mailers.models import SentMail

real_send = EmailMultiAlternatives.send


def send(key: str = "7") -> bool:
    return send_once(
        "welcome", key, to="learner@example.org", subject="Welcome", context={"login_url": "http://test.host/login"}
    )


@pytest.mark.django_db
def test_a_mail_is_sent_once_and_recorded() -> None:
    assert [send(), send()] == [True, False]

    assert len(mail.outbox) == 1
    assert str(SentMail.objects.get()) == "welcome 7"


@pytest.mark.django_db
def test_mails_with_another_key_are_other_mails() -> None:
    assert [send("7"), send("8")] == [True, True]


@pytest.mark.django_db
def test_a_mail_that_could_not_be_sent_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(message: EmailMultiAlternatives) -> None:
        raise smtplib.SMTPServerDisconnected("gone")

    monkeypatch.setattr(EmailMultiAlternatives, "send", fail)
    with pytest.raises(smtplib.SMTPServerDisconnected):
        send()
    monkeypatch.undo()

    assert not SentMail.objects.exists()
    assert send()


@pytest.fixture
def overlapping_runs(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Exception] | None], list[bool | str]]:
    """Run `send` twice: the second begins while the first is sending, which then succeeds or fails."""

    def run(error: type[Exception] | None) -> list[bool | str]:
        first_sends, second_begins = threading.Event(), threading.Event()
        outcomes: list[bool | str] = ["", ""]

        def slow_send(message: EmailMultiAlternatives) -> int:
            if not first_sends.is_set():
                first_sends.set()
                assert second_begins.wait(20)
                if error:
                    raise error
            return real_send(message)

        def first() -> None:
            try:
                outcomes[0] = send()
            except Exception as raised:
                outcomes[0] = type(raised).__name__
            connection.close()

        def second() -> None:
            assert first_sends.wait(20)
            connection.ensure_connection()
            second_begins.set()
            outcomes[1] = send()
            connection.close()

        monkeypatch.setattr(EmailMultiAlternatives, "send", slow_send)
        threads = [threading.Thread(target=target) for target in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return outcomes

    return run


@pytest.mark.django_db(transaction=True)
def test_two_runs_at_once_send_once(
    overlapping_runs: Callable[[type[Exception] | None], list[bool | str]],
) -> None:
    assert overlapping_runs(None) == [True, False]
    assert len(mail.outbox) == 1


@pytest.mark.django_db(transaction=True)
def test_when_the_first_of_two_runs_fails_the_second_sends(
    overlapping_runs: Callable[[type[Exception] | None], list[bool | str]],
) -> None:
    assert overlapping_runs(smtplib.SMTPServerDisconnected) == ["SMTPServerDisconnected", True]
    assert len(mail.outbox) == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    "address", ['"a\x01b"@example.org', "\N{LATIN SMALL LETTER DOTLESS I}@example.org", "a@b", "a\n@example.org", ""]
)
def test_an_address_that_cannot_be_mailed_is_refused_at_once(address: str) -> None:
    with pytest.raises(AddressRefusedError, match="No mail can be sent to such an address"):
        send_once("welcome", "7", to=address, subject="Welcome", context={})

    assert not SentMail.objects.exists()


@pytest.mark.django_db
def test_an_international_domain_of_the_release_before_is_mailed() -> None:
    to = "bob@ex\N{LATIN SMALL LETTER A WITH DIAERESIS}mple.org"

    assert send_once("welcome", "7", to=to, subject="Welcome", context={"login_url": "http://test.host/login"})
