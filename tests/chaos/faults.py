"""What breaks. Each fault is over when its function returns, but for workers that stay dead until they are replaced."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator

from redis.exceptions import RedisError

from tests.processes import WorkerProcess
from tests.servers import Valkey


class Faults:
    """Breaks one thing at a time, drawn with one random generator, so that a seed repeats the order of faults."""

    def __init__(self, chance: random.Random, valkey: Valkey, start: Callable[[], WorkerProcess], workers: int) -> None:
        self._chance, self._valkey, self._start = chance, valkey, start
        self._workers = [start() for _ in range(workers)]
        self.count = 0

    def strike(self) -> str:
        """Break something. Returns what."""
        fault = self._chance.choice(
            [self.kill_child, self.kill_child, self.kill_worker, self.terminate, self.stall, self.cut, self.kill_server]
        )
        self.count += 1
        fault()
        return fault.__name__

    def kill_child(self) -> None:
        for child in self._children(self._any()):
            _kill(child)

    def kill_worker(self) -> None:
        """Parent first, then children: as when the machine's memory is gone."""
        worker = self._any()
        children = self._children(worker)
        worker.kill()
        for child in children:
            _kill(child)
        self._replace(worker)

    def terminate(self) -> None:
        worker = self._any()
        worker.stop()
        self._replace(worker)

    def stall(self) -> None:
        worker = self._any()
        stalled = [worker.pid, *self._children(worker)]
        for pid in stalled:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(self._chance.uniform(0.1, 3))
        for pid in reversed(stalled):
            os.kill(pid, signal.SIGCONT)

    def cut(self) -> None:
        """Drop every connection to the server, several times."""
        for _ in range(self._chance.randint(1, 5)):
            try:
                with self._valkey.client() as client:
                    client.client_kill_filter(_type="normal", skipme=True)
                    client.client_kill_filter(_type="pubsub")
            except RedisError:
                return
            time.sleep(self._chance.uniform(0, 0.3))

    def kill_server(self) -> None:
        """kill -9; it comes back with all that it had accepted."""
        self._valkey.kill()
        time.sleep(self._chance.uniform(0, 2))
        self._valkey.start()

    def stop(self) -> None:
        """The end: workers are told to stop, and do."""
        for worker in self._workers:
            worker.stop()

    def _any(self) -> WorkerProcess:
        return self._chance.choice(self._workers)

    def _replace(self, worker: WorkerProcess) -> None:
        self._workers[self._workers.index(worker)] = self._start()

    def _children(self, worker: WorkerProcess) -> list[int]:
        return list(_children(worker.pid))


def _children(pid: int) -> Iterator[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            yield from map(int, file.read().split())
    except OSError:
        return


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
