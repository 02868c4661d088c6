"""Sessions that have expired are forgotten, others stay."""

from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.utils import timezone

from users.commands.clean_up_sessions import CleanUpSessions


@pytest.mark.django_db
def test_expired_sessions_go():
    now = timezone.now()
    Session.objects.create(session_key="old", session_data="", expire_date=now - timedelta(seconds=1))
    Session.objects.create(session_key="new", session_data="", expire_date=now + timedelta(days=1))

    CleanUpSessions.run()

    assert [session.session_key for session in Session.objects.all()] == ["new"]
