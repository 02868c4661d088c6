"""The app."""

from django.apps import AppConfig


class MailersConfig(AppConfig):
    name = "mailers"
    verbose_name = "Mail"
