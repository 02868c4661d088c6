"""A mail server that refuses, fails and hangs up: each mail is tried again, and leaves once. With a real worker."""

import pytest

from jobs import control
from mailers.delivery import is_for_good
from mailers.models import SentMail
from tests.mailers.smtp import DROP, END, GREETING, SmtpServer
from tests.processes import wait_until
from users.commands.send_welcome_email import SendWelcomeEmail
from users.models import User


@pytest.fixture
def server():
    server = SmtpServer()
    yield server
    server.close()


def send_to(address):
    return SendWelcomeEmail.defer(User.objects.create_user(address))


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_whatever_goes_wrong_the_mail_is_tried_again_and_leaves_once(server, worker_process):
    server.plans = [
        {GREETING: "421 4.3.2 too busy"},
        {GREETING: DROP},
        {"RCPT": "450 4.2.1 come again in a minute"},
        {"RCPT": "550 5.7.1 relaying denied"},  # a fault of ours, perhaps: somebody will mend it
        {"DATA": "451 4.3.0 no room"},
        {END: "554 5.6.0 I do not like it"},
        {END: DROP},
        {"QUIT": DROP},  # it has said yes, and hangs up
    ]
    worker_process("mailers", env={"EMAIL_URL": server.url})
    job = send_to("learner@example.org")
    failures = 1 + len(server.plans) - 1  # the first time nobody listens
    for number in range(1, failures + 1):
        wait_until(lambda number=number: job.state == "retrying" and len(job.results()) == number)
        assert not SentMail.objects.exists()
        if number == 1:
            server.open()
        control.retry(job)
    wait_until(lambda: job.state == "finished")

    assert [mail["To"] for mail in server.received] == ["learner@example.org"]
    assert SentMail.objects.count() == 1
    again = SendWelcomeEmail.defer(User.objects.get())
    wait_until(lambda: again.state == "finished")
    assert server.connections == failures


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_an_address_that_takes_no_mail_is_dropped_at_once_and_others_are_tried_again(server, worker_process):
    answers = {
        "gone": "550 5.1.1 <gone@example.org>: no such user",
        "full": "552 5.2.2 mailbox full",
        "plain": "550 who is that?",
        "relay": "554 5.7.1 relay access denied",
        "later": "450 4.1.1 not sure yet",
    }
    server.plans = [{"RCPT": lambda line: answers[line.partition("<")[2].partition("@")[0]]} for _ in answers]
    server.open()
    worker_process("mailers", env={"EMAIL_URL": server.url})
    jobs = {name: send_to(f"{name}@example.org") for name in answers}
    for job in jobs.values():
        wait_until(lambda job=job: job.state in {"retrying", "discarded"})

    assert {name: job.state for name, job in jobs.items()} == {
        "gone": "discarded",
        "full": "discarded",
        "plain": "discarded",
        "relay": "retrying",
        "later": "retrying",
    }
    assert jobs["gone"].reason == (
        "AddressRefusedError: The mail server refused the address: 550 5.1.1 <<the address>>: no such user. "
        "Correct it, or ask the user to."
    )
    assert not SentMail.objects.exists()


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_a_yes_that_is_lost_sends_twice_under_one_id(server, worker_process):
    server.plans = [{END: DROP, "is_taken": True}, {}]
    server.open()
    worker_process("mailers", env={"EMAIL_URL": server.url})
    first = send_to("learner@example.org")
    wait_until(lambda: first.state == "retrying")
    control.retry(first)
    wait_until(lambda: first.state == "finished")
    other = send_to("other@example.org")
    wait_until(lambda: other.state == "finished")

    one, again, others = (mail["Message-ID"] for mail in server.received)
    assert one == again != others
    assert one.endswith("@jiki.io>")


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (550, b"5.1.1 no such user", True),
        (550, b"5.1.10 no mail here", True),
        (552, b"5.2.2 full", True),
        (551, b"not here", True),
        (553, b"what a name", True),
        (550, b"5.7.1 blocked", False),
        (554, b"no", False),
        (530, b"5.7.0 log in first", False),
        (450, b"4.1.1 not sure", False),
        (450, b"later", False),
        (550, b"4.1.1 which is it?", False),
        (450, b"5.1.1 which is it?", False),
        (550, b"", True),
    ],
)
def test_what_counts_as_for_good(code, text, expected):
    assert is_for_good(code, text) is expected
