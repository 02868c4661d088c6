"""Does the periodic maintenance of RQ's own workers: finishes interrupted work, and deletes ended groups."""

import time
from collections.abc import Callable, Iterable
from functools import partial

from redis import Redis
from rq.group import Group
from rq.rate_limit import RateLimitRegistry
from rq.registry import BaseRegistry, ReadyJobRegistry
from rq.serializers import JSONSerializer

from jobs.broker import keys
from jobs.broker.connections import new_pool
from jobs.job import MandateJob
from jobs.worker.connection import UNREACHABLE

RARELY = 60.0  # seconds between rounds of rate limits and groups


class RqMaintenance:
    """Maintains RQ's registries, by RQ's code. Any worker may run it, several at once, too."""

    def __init__(self, queue: str) -> None:
        self._client = Redis(connection_pool=new_pool(queue, socket_timeout=2, socket_connect_timeout=2))
        self._next_round = 0.0

    def run(self, queues: Iterable[str]) -> None:
        """
        Enqueue dependents of plain RQ jobs that were released but not enqueued. Every RARELY seconds, also free rate
        limits' slots that no job holds, and delete ended groups. What fails keeps nothing else from being done; the
        first error is raised at the end, and redis-py's errors of connections at once.
        """
        duties: list[Callable[[], object]] = [partial(self._enqueue_ready, queue) for queue in queues]
        if time.monotonic() >= self._next_round:
            self._next_round = time.monotonic() + RARELY
            duties += (self._free_slots, lambda: Group.clean_registries(self._client))
        _each(duties)

    def _enqueue_ready(self, queue: str) -> None:
        if self._client.exists(keys.ready(queue)):
            self._registry(ReadyJobRegistry, queue).cleanup()

    def _free_slots(self) -> None:
        _each([limit.cleanup for limit in RateLimitRegistry.all(self._client)])

    def _registry(self, kind: type[BaseRegistry], queue: str) -> BaseRegistry:
        return kind(queue, self._client, job_class=MandateJob, serializer=JSONSerializer)


def _each(duties: Iterable[Callable[[], object]]) -> None:
    failures = []
    for duty in duties:
        try:
            duty()
        except UNREACHABLE:
            raise
        except Exception as error:  # what RQ's code cannot read must not keep it from the rest
            failures.append(error)
    if failures:
        raise failures[0]
