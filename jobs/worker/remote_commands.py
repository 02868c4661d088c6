"""Remote commands: RQ's, as `rq` and django-rq publish them (shutdown, stop-job, stop-execution), and our own."""

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
from jobs.telling import teller
from jobs.worker.process import Process

logger = teller("jobs.worker")

SIGNALS = {"quiet": signal.SIGTSTP, "stacks": signal.SIGTTIN}  # commands of our own, to one child


class Remote:
    """The channels of our children. redis-py's client subscribes again by itself when a connection was lost."""

    def __init__(self, queue: str) -> None:
        self._client = Redis(connection_pool=new_pool(queue, socket_timeout=2, socket_connect_timeout=2))
        self._channels: Any = self._client.pubsub()  # type: ignore[no-untyped-call]
        self._unread: deque[dict[str, Any]] = deque()  # what came while we waited for something else

    def listen(self, worker: str) -> bool:
        """
        Hear what is said to that worker. Whether somebody else does, too: the databases of a server share its channels,
        so what is said to a worker of that name in another one would reach ours. Raises redis-py's errors, as the
        others do.
        """
        channel = keys.channel(worker)
        self._channels.subscribe(channel)
        while True:  # until it is subscribed: of two who subscribe and then count, the later one at least counts both
            message = self._channels.get_message(timeout=2)
            if message is None:
                raise RedisTimeoutError("Redis did not confirm a subscription.")
            if message["type"] == "subscribe" and message["channel"] == channel.encode():
                break
            self._unread.append(message)
        return self._client.pubsub_numsub(channel)[0][1] > 1

    def forget(self, worker: str) -> None:
        """Hear that worker's channel no more."""
        self._channels.unsubscribe(keys.channel(worker))

    def obey(self, processes: Iterable[Process]) -> bool:
        """Carry out what has been said since. Whether we were told to shut down."""
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
                logger.warning("no such thing here: the remote command %.500r", command)
        return shutdown

    def _next(self) -> Any:
        return self._unread.popleft() if self._unread else self._channels.get_message(timeout=0)
