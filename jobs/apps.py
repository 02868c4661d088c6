"""The app: on start-up it imports every app's commands and registers the system checks."""

from importlib import import_module

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import register

BACKEND = "jobs.backends.RQBackend"


class JobsConfig(AppConfig):
    name = "jobs"
    verbose_name = "Background jobs"

    def ready(self) -> None:
        from jobs import checks
        from jobs.client import tracing
        from jobs.record import registry

        tracing.set_up()
        registry.autodiscover()
        if any(options.get("BACKEND") == BACKEND for options in getattr(settings, "TASKS", {}).values()):
            import_module("jobs.backends")  # workers need its command
        for check in checks.ALL:
            register(check, checks.TAG)
