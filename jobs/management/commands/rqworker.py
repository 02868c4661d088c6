"""`manage.py rqworker critical default mailers background low`: django-rq's command and options, with our defaults."""

from typing import Any

from django.core.management.base import CommandParser
from django_rq.management.commands.rqworker import Command as RqWorkerCommand

from jobs import conf


class Command(RqWorkerCommand):  # type: ignore[misc]
    help = "Run jobs of these queues, highest priority first. Without names: of every queue, in priority order."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        # django-rq's default is pickle, with which every JSON job fails.
        parser.set_defaults(serializer="rq.serializers.JSONSerializer", with_scheduler=True)

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*(args or conf.queues()), **options)
