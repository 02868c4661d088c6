"""
The pool of a client's connections. redis-py's own pools take longer than the rest of a `defer`: locks and a queue in
Python, a poll set per call, and records for observability at each step.
"""

import threading
from typing import Any

from redis import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.sentinel import SentinelConnectionPool

WAIT_FOR_CONNECTION = 1  # seconds, if all connections are in use


class AllInUseError(RedisConnectionError):
    """Raised if no connection is returned in time. None was lost, so nothing is to be sent once more."""


class Pool(ConnectionPool):
    """
    A bounded pool of connections. It lends the one that was used last, or a new one if all are in use; if all
    `max_connections` are, a thread waits up to WAIT_FOR_CONNECTION. In a forked process, redis-py's `_checkpid` resets
    it, so that the process opens connections of its own.
    """

    def reset(self) -> None:
        # In a forked child, first: another thread of the parent may have held the lock.
        self._lock = threading.RLock()
        self._returned = threading.Condition(self._lock)
        super().reset()

    def get_connection(self, *_: Any, **__: Any) -> Any:
        """
        Lend a connection that is open, and on which no answer is waiting.

        Raises AllInUseError, and redis-py's errors of connecting.
        """
        self._checkpid()
        connection = None
        try:
            with self._lock:
                if len(self._in_use_connections) >= self.max_connections:
                    self._wait()
                idle = self._available_connections
                connection = idle.pop() if idle else self.connection_class(**self.connection_kwargs)
                self._in_use_connections.add(connection)
            if connection.is_connected and not _is_ready(connection):
                connection.disconnect()
            if not connection.is_connected:
                connection.connect()
            connection.re_auth()  # if a credential provider has brought a new token since
            return connection
        except BaseException:
            if connection is not None:
                self.release(connection)
            raise

    def _wait(self) -> None:
        if not self._returned.wait_for(
            lambda: len(self._in_use_connections) < self.max_connections, timeout=WAIT_FOR_CONNECTION
        ):
            raise AllInUseError("No connection available.")

    def release(self, connection: Any) -> None:
        """Take a connection back. One that was lent before a fork, or is back already, is ignored."""
        self._checkpid()
        with self._lock:
            if connection not in self._in_use_connections:
                return
            if connection.should_reconnect() or not self.owns_connection(connection):
                connection.disconnect()
            self._in_use_connections.remove(connection)
            self._available_connections.append(connection)
            self._returned.notify()


class SentinelPool(Pool, SentinelConnectionPool):
    """The same, of connections to the primary that Sentinels name."""


def bounded(pool: ConnectionPool, most: int) -> ConnectionPool:
    """Return a pool of at most so many connections, of the same class and with the same options as those of `pool`."""
    if isinstance(pool, SentinelConnectionPool):
        return SentinelPool(  # type: ignore[no-untyped-call]
            pool.service_name,
            pool.sentinel_manager,
            connection_class=pool.connection_class,
            max_connections=most,
            is_master=pool.is_master,
            check_connection=pool.check_connection,
            **pool.connection_kwargs,
        )
    return Pool(connection_class=pool.connection_class, max_connections=most, **pool.connection_kwargs)


def _is_ready(connection: Any) -> bool:
    """Whether nothing can be read: neither an answer that nobody has read, nor the end of a lost connection."""
    try:
        return not connection.can_read()
    except (RedisConnectionError, RedisTimeoutError, OSError):
        return False
