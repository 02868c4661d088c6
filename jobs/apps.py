"""The app: on start-up it imports every app's commands and registers the system checks."""

from django.apps import AppConfig
from django.core.checks import register


class JobsConfig(AppConfig):
    name = "jobs"
    verbose_name = "Background jobs"

    def ready(self) -> None:
        from jobs import checks, registry

        registry.autodiscover()
        for check in checks.ALL:
            register(check, checks.TAG)
