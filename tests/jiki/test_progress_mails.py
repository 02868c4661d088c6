"""The way out of progress mails: a link in each, a page that asks, and the button of mail programs."""

from datetime import date

import pytest
from django.core import mail
from django.test import Client

from jiki.commands.send_progress_email import SendProgressEmail
from jiki.links import export_token, progress_url
from jiki.models import DataExport, ProgressOptOut

pytestmark = pytest.mark.django_db


@pytest.fixture
def path(pupil):
    return progress_url(pupil).removeprefix("http://test.host")


def test_a_look_at_the_link_ends_nothing_and_the_button_does(client, path):
    page = client.get(path).content.decode()
    assert "Stop these mails" in page
    assert not ProgressOptOut.objects.exists()

    assert "You get none from now on" in client.post(path).content.decode()
    assert "You get none from now on" in client.get(path).content.decode()
    assert "Stop these mails" in client.post(path, {"again": "1"}).content.decode()
    assert not ProgressOptOut.objects.exists()


def test_a_mail_program_ends_them_by_itself_and_may_do_so_twice(pupil, loops, hand_in, path):
    hand_in(pupil, loops)
    SendProgressEmail.run(pupil, date(2026, 3, 2))
    headers = mail.outbox[0].message()
    link = headers["List-Unsubscribe"]
    assert link.startswith(f"<http://test.host{path.split(':')[0]}:")  # then the time at which it was signed
    path = link.strip("<>").removeprefix("http://test.host")
    assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    outside = Client(enforce_csrf_checks=True)
    for _ in range(2):
        assert outside.post(path, {"List-Unsubscribe": "One-Click"}).status_code == 200

    assert ProgressOptOut.objects.get().user == pupil


def test_a_link_that_we_did_not_make_for_this_leads_nowhere(client, pupil):
    export = DataExport.objects.create(user=pupil)
    for token in ("x", export_token(export)):
        for ask in (client.get, client.post):
            assert ask(f"/progress-mails/{token}/").status_code == 404
    assert not ProgressOptOut.objects.exists()


def test_the_link_of_a_user_who_is_gone_leads_nowhere(client, pupil, path):
    pupil.delete()
    assert client.post(path).status_code == 404
