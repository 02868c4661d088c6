"""Obeys remote commands: RQ's, which `rq` and django-rq publish (shutdown, stop-job, stop-execution), and our own."""

import os
import signal
from collections import deque
from collections.abc import Iterable
from typing import Any

import orjson
from redis import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError

from jobs.broker import keys
from jobs.broker.connections import new_pool
from jobs.broker.times import as_text
from jobs.safe_logging import safe_logger
from jobs.worker.connection import UNREACHABLE
from jobs.worker.process import Process

logger = safe_logger("jobs.worker")

ANSWER = 2  # seconds for the rest of a message, and for the answer to a subscription
SIGNALS = {"quiet": signal.SIGTSTP, "stacks": signal.SIGTTIN}  # our own commands, sent to one child


class Remote:
    """The channels of this parent's children. redis-py's client subscribes again by itself after a lost connection."""

    def __init__(self, queue: str) -> None:
        self._client = Redis(connection_pool=new_pool(queue, socket_timeout=ANSWER, socket_connect_timeout=ANSWER))
        self._channels: Any = self._client.pubsub()  # type: ignore[no-untyped-call]
        self._unread: deque[dict[str, Any]] = deque()  # what came while we waited for something else

    def listen(self, worker: str) -> bool:
        """
        Subscribe to a worker's channel. Returns whether another client is subscribed, too: the databases of a server
        share its channels, so commands to a worker of that name in another database would reach ours. Raises
        redis-py's errors, as the other methods do.
        """
        channel = keys.channel(worker)
        self._channels.subscribe(channel)
        while True:  # until it is subscribed: of two who subscribe and then count, the later one at least counts both
            message = self._channels.get_message(timeout=ANSWER)
            if message is None:
                raise RedisTimeoutError("Redis did not confirm a subscription.")
            if message["type"] == "subscribe" and message["channel"] == channel.encode():
                break
            self._unread.append(message)
        return self._client.pubsub_numsub(channel)[0][1] > 1

    def forget(self, worker: str) -> None:
        """Unsubscribe from a worker's channel."""
        self._channels.unsubscribe(keys.channel(worker))

    def obey(self, processes: Iterable[Process]) -> bool:
        """Obey the commands received since the last call. Returns whether to shut down."""
        shutdown = False
        by_channel = {keys.channel(process.name): process for process in processes}
        while by_channel and (message := self._next()) is not None:
            if message["type"] != "message":
                continue
            try:
                process = by_channel[as_text(message["channel"])]
                words = orjson.loads(message["data"])
                command = words["command"]
                if command in SIGNALS:
                    os.kill(process.pid, SIGNALS[command])
                    continue
                if command == "profile":
                    process.send("profile")
                    continue
                if command in {"stop-job", "stop-execution"}:
                    process.send("stop", words["job_id"], words.get("execution_id", ""))
                    continue
            except (AttributeError, KeyError, TypeError, ValueError, OSError):
                logger.warning("unreadable remote command: %.500r", message)
                continue
            if command == "shutdown":
                shutdown = True
            else:
                logger.warning("unknown remote command: %.500r", command)
        return shutdown

    def _next(self) -> Any:
        if self._unread:
            return self._unread.popleft()
        return self._channels.get_message(timeout=ANSWER if self._has_come() else 0)

    def _has_come(self) -> bool:
        """
        Whether at least a part of a message is there. For the rest of one, redis-py would not wait: it would connect
        anew, and lose the message.
        """
        connection = self._channels.connection
        if connection is None or not connection.is_connected:
            return False
        try:
            return bool(connection.can_read(timeout=0))
        except UNREACHABLE:
            connection.disconnect()  # only a closed one is connected and subscribed anew
            return False
