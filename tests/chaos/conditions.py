"""
What a server or a machine does to its workers for a second or two, beside the faults of tests/chaos/faults.py: the
server is a replica, is full, or refuses large values; a worker's clock is set; strangers write into RQ's keys.
"""

import os
import random
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from tests.servers import Valkey

LARGEST_VALUE = 512 * 2**20  # bytes: the server's default
STEPS = (600.0, 3_600.0, 25 * 3_600.0)  # seconds that a clock is set, forwards or backwards
QUEUES = ("critical", "default", "low")
ODD = "odd!"  # how each id and name of ours begins, so that all of them can be found and removed
ODD_NAMES = [
    ODD.encode() + rest
    for rest in (b"", b"a:b", b"a/b c", b"a\nb", b"\xff\xfe", "ü\u2028".encode(), b"%41..", b"x" * 5_000, b":w.1")
]


class Conditions:
    """Begins one at a time, drawn as cards from a deck, so that each comes; a timer ends it."""

    def __init__(self, chance: random.Random, valkey: Valkey, clocks: list[Path]) -> None:
        self._chance, self._valkey, self._clocks = chance, valkey, clocks
        self._deck: list[Callable[[], None]] = []
        self._timer = threading.Timer(0, self.recover)
        self._timer.start()

    def begin(self) -> str:
        """Begin the next one, after the end of the one before. Returns its name."""
        self._timer.join()
        if not self._deck:
            self._deck = [self.step_clock, self.be_replica, self.refuse_large_values, self.be_full, self.write_garbage]
            self._chance.shuffle(self._deck)
        condition = self._deck.pop()
        self._timer = threading.Timer(self._chance.uniform(0.5, 2), self.recover)
        condition()
        self._timer.start()
        return condition.__name__

    def end(self) -> None:
        """Wait for the end of the last one, and set the clocks right. See `remove_garbage` for what strangers wrote."""
        self._timer.join()
        for clock in self._clocks:
            set_clock(clock, 0.0)

    def recover(self) -> None:
        """The server is a primary that takes everything again. A fault that has it down at the moment starts it."""
        for _ in range(600):
            try:
                with self._valkey.client() as client:
                    client.replicaof("no", "one")
                    client.config_set("maxmemory", 0)
                    client.config_set("proto-max-bulk-len", LARGEST_VALUE)
                return
            except RedisError:
                time.sleep(0.05)
        raise AssertionError("The server does not come back.")

    # --- the conditions --------------------------------------------------------------------------

    def step_clock(self) -> None:
        """The clock of one worker's machine is set, and stays wrong until it is drawn again."""
        set_clock(self._chance.choice(self._clocks), self._chance.choice(STEPS) * self._chance.choice([1, -1]))

    def be_replica(self) -> None:
        """Of a server that does not exist: each write is answered with READONLY."""
        with self._valkey.client() as client:
            client.replicaof("127.0.0.1", 1)

    def refuse_large_values(self) -> None:
        """A value of over a megabyte closes the connection that sent it."""
        with self._valkey.client() as client:
            client.config_set("proto-max-bulk-len", 2**20)

    def be_full(self) -> None:
        """Each write that needs memory is answered with OOM."""
        with self._valkey.client() as client:
            client.config_set("maxmemory", 1)

    def write_garbage(self) -> None:
        """Ids that are none, records of another type or without sense, beats and claims of nobody, senseless orders."""
        with self._valkey.client() as client:
            for number, name in enumerate(ODD_NAMES):
                queue = self._chance.choice(QUEUES)
                self._write_record(client, b"rq:job:" + name, number)
                client.rpush(f"rq:queue:{queue}", name)
                client.zadd(f"rq:wip:{queue}", {name + b":nobody at all.3": 1, name: 1})
                client.zadd(f"rq:scheduled:{queue}", {name + b"-due": 1})
                for kind in ("finished", "failed", "canceled", "deferred"):
                    client.zadd(f"rq:{kind}:{queue}", {name: time.time() + 3_600})
                client.sadd("jobs:releasing", b"jobs:dependents:" + name, name)
                client.set(b"jobs:dependents:" + name, "x")
                client.zadd("jobs:workers", {name: 1})
            next_minute = int(time.time() // 60) + 1
            client.set(f"jobs:counts:{next_minute}", "no hash", nx=True)
            client.set("jobs:heard", "no number")
            for channel in client.pubsub_channels("rq:pubsub:*"):
                for message in (b"\xff", b"[" * 50_000, b'{"command": "nothing"}', b'{"command": "stop-job"}'):
                    client.publish(channel, message)

    def _write_record(self, client: Redis, key: bytes, number: int) -> None:
        client.delete(key)
        if number % 3 == 0:
            client.set(key, "no hash")
        elif number % 3 == 1:
            client.hset(key, mapping={"status": b"\xff", "data": b"[" * 10_000, "timeout": "x", "origin": b"\xff"})


def remove_garbage(client: Redis) -> list[bytes]:
    """Remove what `write_garbage` wrote. Returns the names that are still in a queue: no worker has taken them."""
    odd, left = ODD.encode(), []
    for queue in QUEUES:
        left += [name for name in client.lrange(f"rq:queue:{queue}", 0, -1) if name.startswith(odd)]
        for kind in ("wip", "scheduled", "finished", "failed", "canceled", "deferred"):
            members = client.zrange(f"rq:{kind}:{queue}", 0, -1)
            if ours := [name for name in members if name.startswith(odd)]:
                client.zrem(f"rq:{kind}:{queue}", *ours)
    for pattern in ("rq:job:", "rq:results:", "jobs:dependents:", "jobs:gone:"):
        for key in client.scan_iter(pattern + ODD + "*"):
            client.delete(key)
    for key in client.scan_iter("jobs:counts:*"):
        if client.type(key) == b"string":
            client.delete(key)
    return left


# --- the clock of a worker's machine -------------------------------------------------------------


def new_clock(path: Path) -> Path:
    """A file by which the clock of the workers with CLOCK_FILE=<path> can be set: see tests/faults/apps.py."""
    path.write_bytes(struct.pack("d", 0.0))
    return path


def set_clock(path: Path, seconds_ahead: float) -> None:
    """Set it while they run. They have mapped the file, so it must keep its length."""
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), struct.pack("d", seconds_ahead), 0)
