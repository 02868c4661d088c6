"""
The worker's own connection: it packs commands once, and retries nothing by itself.

redis-py's Connection does the set-up (TLS, ACL, Sentinel, sockets); its client's layers above that cost more per call
than the server does. After an error the caller decides what to send again, because only it knows the effects of a
command whose reply was lost.
"""

from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from jobs.broker.connections import Script, Word, new_pool

UNREACHABLE = (RedisConnectionError, RedisTimeoutError, OSError)
CONNECTION_ERRORS = (*UNREACHABLE, ResponseError)  # and a server that answers, and refuses

PATIENCE = 5.0  # seconds without an answer after which a connection is given up, by default


class Wire:
    """One connection to one queue's server, used by one thread at a time. `timeout` bounds each answer, in seconds."""

    def __init__(self, queue: str, timeout: float | None = None) -> None:
        timeout = PATIENCE if timeout is None else timeout
        self._pool = new_pool(queue, socket_timeout=timeout, socket_connect_timeout=min(timeout, 5))
        self._connection: Any = None  # redis-py's Connection, of the pool's class
        self._started: tuple[Script, list[str], tuple[Word, ...]]  # the script whose answer is to come

    def call(self, *words: Word) -> Any:
        """Send one command and return its answer. After an error the connection is closed, never half read."""
        try:
            self.send(*words)
        except BaseException:
            self.close()
            raise
        return self._answer()

    def _answer(self) -> Any:
        try:
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
        """Run a script by its digest, or by its text on a server that lost it (a restart, SCRIPT FLUSH)."""
        self.start(script, keys, *arguments)
        return self.finish()

    def start(self, script: Script, keys: list[str], *arguments: Word) -> None:
        """As `run`, without waiting for the answer: `finish` does, before anything else is sent."""
        self._started = (script, keys, arguments)
        try:
            self.send("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except BaseException:
            self.close()
            raise

    def finish(self) -> Any:
        """Wait for the answer of the script that was started, and return it."""
        script, keys, arguments = self._started
        try:
            return self._answer()
        except NoScriptError:
            return self.call("EVAL", script.text, len(keys), *keys, *arguments)

    def send(self, *words: Word) -> None:
        """Send one command without waiting for its answer."""
        if self._connection is None:
            # Not the pool's `make_connection`, which counts: after many outages it would refuse for good.
            connection: Any = self._pool.connection_class(**self._pool.connection_kwargs)
            connection.connect()
            self._connection = connection
        self._connection.send_packed_command(self._connection.pack_command(*words), check_health=False)

    def receive(self) -> Any:
        """Return the next answer, as bytes. Raises an error answer."""
        return self._connection.read_response(disable_decoding=True)

    def fileno(self) -> int:
        """Return the file for `select`: readable when an answer, or the end of the connection, has arrived."""
        return self._connection._sock.fileno()  # type: ignore[no-any-return]

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None
