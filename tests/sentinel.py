"""The tests' settings for processes that find their server through Sentinels: SENTINELS=<port>,<port>, all local."""

import os
from typing import Any

from config.queues import QUEUES
from tests.settings import *  # noqa: F403

MASTER_NAME = "jiki"


def rq_queues(ports: list[int]) -> dict[str, dict[str, Any]]:
    """RQ_QUEUES in django-rq's form for Sentinels."""
    sentinels = [("127.0.0.1", port) for port in ports]
    return {
        name: {"SENTINELS": sentinels, "MASTER_NAME": MASTER_NAME, "SERIALIZER": "rq.serializers.JSONSerializer"}
        for name in QUEUES
    }


RQ_QUEUES = rq_queues([int(port) for port in os.environ.get("SENTINELS", "").split(",") if port])
