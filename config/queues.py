"""
The queues, highest priority first, each with its purpose; `target`: seconds that its first job may have waited.
Edit only this table: RQ_QUEUES and the worker's order follow from it.
"""

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured

QUEUES: dict[str, str | dict[str, Any]] = {
    "critical": {"about": "A learner is waiting: submissions, authentication.", "target": 1.0},
    "default": "Everything without a reason to be elsewhere.",
    "mailers": "All mail, so that a backlog of it holds up nothing else.",
    "background": "Bulk and non-urgent work: statistics, cache warming.",
    "low": "Maintenance, exports: whenever there is spare capacity.",
}


def rq_queues(redis_url: str, elsewhere: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """
    Return django-rq's RQ_QUEUES: one Redis server for all queues except those in `elsewhere`, by name.

    All queues use JSON: RQ's own default is pickle. Raises ImproperlyConfigured for an unknown queue.
    """
    urls = elsewhere or {}
    if unknown := sorted(urls.keys() - QUEUES.keys()):
        raise ImproperlyConfigured(f"REDIS_URLS names {', '.join(unknown)}, but the queues are: {', '.join(QUEUES)}.")
    return {name: {"URL": urls.get(name, redis_url), "SERIALIZER": "rq.serializers.JSONSerializer"} for name in QUEUES}
