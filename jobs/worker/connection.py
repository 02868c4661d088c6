"""
The worker's own connection: commands packed once, nothing retried behind its back.

redis-py's Connection does the set-up (TLS, ACL, Sentinel, sockets); its client's layers above that cost more per call
than the server does. After an error the caller decides what to send again, because only it knows what a lost reply
may have done.
"""

from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from jobs.broker.connections import Script, Word, new_pool

UNREACHABLE = (RedisConnectionError, RedisTimeoutError, OSError)


PATIENCE = 5.0  # seconds without an answer after which a connection is given up, if nothing else is said


class Wire:
    """One connection to one queue's server, used by one thread at a time. `timeout` bounds each answer, in seconds."""

    def __init__(self, queue: str, timeout: float | None = None) -> None:
        timeout = PATIENCE if timeout is None else timeout
        self._pool = new_pool(queue, socket_timeout=timeout, socket_connect_timeout=min(timeout, 5))
        self._connection: Any = None  # redis-py's Connection, of whichever kind the pool makes

    def call(self, *words: Word) -> Any:
        """Send one command, return its answer. Errors leave no half-read connection behind."""
        try:
            self.send(*words)
            return self.receive()
        except BaseException as error:
            if not isinstance(error, NoScriptError):
                self.close()
            raise

    def read(self, *words: Word) -> list[bytes]:
        """As `call`, what a key lists; nothing, if it is of another type."""
        try:
            return list(self.call(*words))
        except ResponseError as error:
            if str(error).startswith("WRONGTYPE"):
                return []
            raise

    def run(self, script: Script, keys: list[str], *arguments: Word) -> Any:
        """Run a script by its digest; a server that lost it (a restart, SCRIPT FLUSH) is given the text again."""
        try:
            return self.call("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return self.call("EVAL", script.text, len(keys), *keys, *arguments)

    def send(self, *words: Word) -> None:
        """Send one command without waiting for its answer."""
        if self._connection is None:
            # Not the pool's `make_connection`, which counts: after so many outages it would refuse for good.
            connection: Any = self._pool.connection_class(**self._pool.connection_kwargs)
            connection.connect()
            self._connection = connection
        self._connection.send_packed_command(self._connection.pack_command(*words), check_health=False)

    def receive(self) -> Any:
        """The next answer, as bytes; an error answer is raised."""
        return self._connection.read_response(disable_decoding=True)

    def fileno(self) -> int:
        """For `select`: readable when an answer, or the end of the connection, has come."""
        return self._connection._sock.fileno()  # type: ignore[no-any-return]

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None
