"""The app: on start-up it imports every app's commands and registers the system checks."""

from importlib import import_module

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import register

BACKEND = "jobs.backends.RQBackend"


def _hide_rows_of_django_rq() -> None:
    """The model behind django-rq's admin page has no table either, and `dumpdata` would ask for its rows."""
    from jobs.models import NoRows

    for model in apps.get_app_config("django_rq").get_models() if apps.is_installed("django_rq") else ():
        if not model._meta.managed:
            model._meta.local_managers.clear()
            model._meta.base_manager_name = "objects"  # for `dumpdata --all`
            model.add_to_class("objects", NoRows())


class JobsConfig(AppConfig):
    name = "jobs"
    verbose_name = "Background jobs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from jobs import checks
        from jobs.client import tracing
        from jobs.record import registry

        _hide_rows_of_django_rq()
        tracing.set_up()
        registry.autodiscover()
        if any(options.get("BACKEND") == BACKEND for options in getattr(settings, "TASKS", {}).values()):
            import_module("jobs.backends")  # workers need its command
        for check in checks.ALL:
            register(check, checks.TAG)
