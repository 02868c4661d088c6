"""The app: on start-up it fills in settings, imports every app's commands and registers the system checks."""

from importlib import import_module
from types import ModuleType

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import register
from django.core.exceptions import ImproperlyConfigured

BACKEND = "jobs.backends.RQBackend"


def _hide_rows_of_django_rq() -> None:
    """The model behind django-rq's admin page has no table either, and `dumpdata` would ask for its rows."""
    from jobs.models import NoRows

    for model in apps.get_app_config("django_rq").get_models() if apps.is_installed("django_rq") else ():
        if not model._meta.managed:
            model._meta.local_managers.clear()
            model._meta.base_manager_name = "objects"  # for `dumpdata --all`
            model.add_to_class("objects", NoRows())


def _refuse_a_namesake() -> None:
    """Django's own error names the label alone, not whose it is, nor what to do."""
    for entry in settings.INSTALLED_APPS:
        is_candidate = "jobs" in entry.split(".")[1:] and not entry.startswith("jobs.")
        if is_candidate and AppConfig.create(entry).label == "jobs":
            raise ImproperlyConfigured(
                f"{entry!r} in INSTALLED_APPS has the label 'jobs', which is that of django-mandate's own app. "
                f"Give yours another one, for instance label = {entry.split('.')[0] + '_jobs'!r} in its AppConfig."
            )


class JobsConfig(AppConfig):
    name = "jobs"
    verbose_name = "Background jobs"
    default_auto_field = "django.db.models.BigAutoField"

    def __init__(self, app_name: str, app_module: ModuleType | None) -> None:
        from jobs.broker import defaults

        super().__init__(app_name, app_module)
        _refuse_a_namesake()
        defaults.fill_in()

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
        register(checks.check_development, checks.TAG, deploy=True)
