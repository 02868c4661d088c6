"""The client of RQ's code that runs plain jobs: with time-outs that fit a worker, and without retries."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import WatchError

from jobs.broker.connections import new_pool
from jobs.worker.connection import UNREACHABLE


class _Pipeline(Pipeline):
    """
    Raises the error of a connection that is lost while keys are watched. redis-py's own pipeline raises WatchError,
    after which RQ's code begins again at once: for ever, if the server closes the connection for what it sends.
    """

    def execute(self, *args: Any, **options: Any) -> Any:
        with _losing_the_connection():
            return super().execute(*args, **options)

    def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        with _losing_the_connection():
            return super().immediate_execute_command(*args, **options)  # type: ignore[no-untyped-call]


@contextmanager
def _losing_the_connection() -> Iterator[None]:
    try:
        yield
    except WatchError as error:
        if isinstance(error.__context__, UNREACHABLE):
            raise error.__context__ from None
        raise


class _Client(Redis):
    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


_clients: dict[str, Redis] = {}


def client(queue: str) -> Redis:
    """Return the client for a queue's server."""
    if queue not in _clients:
        _clients[queue] = _Client(connection_pool=new_pool(queue, socket_timeout=10, socket_connect_timeout=5))
    return _clients[queue]
