"""Obeys remote commands: RQ's, which `rq` and django-rq publish (shutdown, stop-job, stop-execution), and our own."""

import json
import logging
import os
import signal
from collections.abc import Iterable
from typing import Any

from redis import Redis

from jobs.broker import keys
from jobs.broker.connections import new_pool
from jobs.worker.process import Process

logger = logging.getLogger("jobs.worker")

SIGNALS = {"quiet": signal.SIGTSTP, "stacks": signal.SIGTTIN}  # our own commands, sent to one child


class Remote:
    """The channels of this parent's children. redis-py's client subscribes again by itself after a lost connection."""

    def __init__(self, queue: str) -> None:
        client = Redis(connection_pool=new_pool(queue, socket_timeout=2, socket_connect_timeout=2))
        self._channels: Any = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]

    def listen(self, worker: str) -> None:
        """Subscribe to a worker's channel. Raises redis-py's errors, as the other methods do."""
        self._channels.subscribe(keys.channel(worker))

    def forget(self, worker: str) -> None:
        """Unsubscribe from a worker's channel."""
        self._channels.unsubscribe(keys.channel(worker))

    def obey(self, processes: Iterable[Process]) -> bool:
        """Obey the commands received since the last call. Returns whether to shut down."""
        shutdown = False
        by_channel = {keys.channel(process.name): process for process in processes}
        while by_channel and (message := self._channels.get_message(timeout=0)) is not None:
            try:
                process = by_channel[message["channel"].decode()]
                words = json.loads(message["data"])
                command = words["command"]
                if command in SIGNALS:
                    os.kill(process.pid, SIGNALS[command])
                    continue
                if command == "profile":
                    process.send("profile  \n")
                    continue
                if command in {"stop-job", "stop-execution"}:
                    process.send(f"stop {words['job_id']} {words.get('execution_id', '')}\n")
                    continue
            except (AttributeError, KeyError, TypeError, ValueError, OSError):
                logger.warning("unreadable remote command: %r", message)
                continue
            if command == "shutdown":
                shutdown = True
            else:
                logger.warning("unknown remote command: %r", command)
        return shutdown
