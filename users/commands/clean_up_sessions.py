"""Forget sessions that have expired."""

from importlib import import_module

from django.conf import settings

from jobs import Mandate


class CleanUpSessions(Mandate):
    """What `manage.py clearsessions` does, for whichever engine keeps the sessions."""

    queue = "low"

    def call(self) -> None:
        import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()
