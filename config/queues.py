"""The queues, highest priority first. The one table to edit; RQ_QUEUES and the worker's order follow from it."""

from typing import Any

QUEUES = {
    "critical": "A learner is waiting: submissions, authentication. Sub-second.",
    "default": "Everything without a reason to be elsewhere.",
    "mailers": "All mail, so that a backlog of it holds up nothing else.",
    "background": "Bulk and non-urgent work: statistics, cache warming.",
    "low": "Maintenance, exports: whenever there is spare capacity.",
}


def rq_queues(redis_url: str) -> dict[str, dict[str, Any]]:
    """django-rq's RQ_QUEUES for one Redis server. JSON everywhere: RQ's own default is pickle."""
    return {name: {"URL": redis_url, "SERIALIZER": "rq.serializers.JSONSerializer"} for name in QUEUES}
