"""The app."""

from django.apps import AppConfig


class JikiConfig(AppConfig):
    name = "jiki"
    verbose_name = "Jiki"
