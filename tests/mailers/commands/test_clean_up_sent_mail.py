"""Records of mails that no job can want to send again go."""

from datetime import timedelta

import pytest
from django.utils import timezone

from mailers.commands.clean_up_sent_mail import CleanUpSentMail
from mailers.models import SentMail


@pytest.mark.django_db
def test_old_records_go_and_a_dead_jobs_mail_is_still_known():
    for key, days in (("old", 401), ("of a dead job", 200), ("new", 0)):
        SentMail.objects.create(kind="welcome", key=key, sent_at=timezone.now() - timedelta(days=days))

    assert CleanUpSentMail.run() == 1
    assert sorted(mail.key for mail in SentMail.objects.all()) == ["new", "of a dead job"]
