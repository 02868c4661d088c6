"""The app."""

from django.apps import AppConfig


class JikiConfig(AppConfig):
    name = "jiki"
    verbose_name = "Jiki"

    def ready(self) -> None:
        from jiki import receivers  # noqa: F401  # it needs the models
