"""Delete expired sessions."""

from importlib import import_module

from django.conf import settings

from jobs import Mandate


class CleanUpSessions(Mandate):
    """Does what `manage.py clearsessions` does, with any session engine."""

    queue = "low"

    def call(self) -> None:
        import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()
