"""Does the periodic maintenance of RQ's own workers: finishes interrupted work, and deletes ended groups."""

import time
from collections.abc import Callable, Iterable

from redis import Redis
from redis.exceptions import RedisError
from rq.group import Group
from rq.rate_limit import RateLimitRegistry
from rq.registry import BaseRegistry, ReadyJobRegistry
from rq.serializers import JSONSerializer

from jobs.broker import keys
from jobs.broker.connections import new_pool
from jobs.job import MandateJob
from jobs.safe_logging import safe_logger
from jobs.worker.connection import UNREACHABLE

logger = safe_logger("jobs.worker")

RARELY = 60.0  # seconds between rounds of rate limits and groups


class RqMaintenance:
    """Maintains RQ's registries, by RQ's code. Any worker may run it, several at once, too."""

    def __init__(self, queue: str) -> None:
        self._client = Redis(connection_pool=new_pool(queue, socket_timeout=2, socket_connect_timeout=2))
        self._next_round = 0.0

    def run(self, queues: Iterable[str]) -> None:
        """
        Enqueue dependents of plain RQ jobs that were released but not enqueued. Every RARELY seconds, also free rate
        limits' slots that no job holds, and delete ended groups. Raises redis-py's errors.
        """
        for queue in queues:
            if self._client.exists(keys.ready(queue)):
                self._do(self._registry(ReadyJobRegistry, queue).cleanup)
        if time.monotonic() < self._next_round:
            return
        self._next_round = time.monotonic() + RARELY
        for limit in RateLimitRegistry.all(self._client):
            self._do(limit.cleanup)
        self._do(lambda: Group.clean_registries(self._client))

    def _registry(self, kind: type[BaseRegistry], queue: str) -> BaseRegistry:
        return kind(queue, self._client, job_class=MandateJob, serializer=JSONSerializer)

    def _do(self, duty: Callable[[], object]) -> None:
        try:
            duty()
        except (*UNREACHABLE, RedisError):
            raise
        except Exception:  # a job that RQ cannot read must not end the parent
            logger.exception("RQ's maintenance failed")
