"""What breaks. A fault is over when its function returns, but for those that last: they go on beside the next ones."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from redis.exceptions import RedisError

from jobs.broker import embedded
from tests.chaos.conditions import Conditions, new_clock
from tests.processes import ROOT, WorkerProcess, wait_until
from tests.servers import Valkey

LASTING = 60.0  # seconds that a run must have for faults that take more than half a minute each


class Faults:
    """
    Breaks one thing at a time, drawn with one random generator, so that a seed repeats the order of faults. Beside each
    fault one of the conditions in tests/chaos/conditions.py begins.

    `start(environment)` starts a worker with these variables: it reaches the server through the proxy.
    """

    def __init__(
        self,
        chance: random.Random,
        valkey: Valkey,
        start: Callable[[dict[str, str]], WorkerProcess],
        workers: int,
        seconds: float,
    ) -> None:
        self._chance, self._valkey = chance, valkey
        self._proxy = ProxyProcess(valkey)
        self._new_worker = start
        self._clocks = [new_clock(valkey.directory.parent / f"clock-{number}") for number in range(workers)]
        self._conditions = Conditions(chance, valkey, self._clocks)
        self._workers = [self._start(clock) for clock in self._clocks]
        self._frozen: WorkerProcess | None = None
        self._halted: list[int] = []  # its processes
        self._thaw_at = float("inf")
        self._faults = [
            *(self.kill_child, self.kill_child, self.kill_worker, self.terminate, self.stall),
            *(self.cut, self.kill_server, self.lose_requests, self.lose_answers, self.swallow, self.delay),
        ]
        self._longest = 12.0 if seconds >= LASTING else 6.0  # seconds that the way to the server may be blocked
        if seconds >= LASTING:
            self._faults.append(self.freeze)

    def strike(self) -> str:
        """Break something. Returns what: the names of the fault and of the condition."""
        self._thaw_if_due()
        fault = self._chance.choice(self._faults)
        if fault == self.freeze and self._frozen is not None:
            fault = self.stall
        condition = self._conditions.begin()
        fault()
        return f"{fault.__name__} {condition}"

    def stop(self) -> None:
        """The end: everything answers again, workers are told to stop, and do."""
        self._thaw_at = 0.0
        self._thaw_if_due()
        self._conditions.end()
        for worker in self._workers:
            worker.stop()
        self._proxy.stop()

    # --- processes -------------------------------------------------------------------------------

    def kill_child(self) -> None:
        """One of a worker's, or all of them."""
        children = _children(self._any().pid)
        for child in children[: self._chance.choice([1, len(children)])]:
            _send(signal.SIGKILL, child)

    def kill_worker(self) -> None:
        """Parent first, then children: as when the machine's memory is gone."""
        worker = self._any()
        children = _children(worker.pid)
        worker.kill()
        for child in children:
            _send(signal.SIGKILL, child)
        self._replace(worker)

    def terminate(self) -> None:
        worker = self._any()
        worker.stop()
        self._replace(worker)

    def stall(self) -> None:
        """A whole worker stops for less time than makes it dead."""
        worker = self._any()
        stalled = _halt(worker)
        time.sleep(self._chance.uniform(0.1, 3))
        _resume(stalled)

    def freeze(self) -> None:
        """A whole worker stops for longer: the other takes its jobs over, while faults go on there. One at a time."""
        self._frozen = self._any()
        self._thaw_at = time.monotonic() + self._chance.uniform(32, 45)
        self._halted = _halt(self._frozen)

    def _thaw_if_due(self) -> None:
        if self._frozen is not None and time.monotonic() >= self._thaw_at:
            _resume(self._halted)
            self._frozen = None

    # --- the server, and the way to it -----------------------------------------------------------

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

    def lose_requests(self) -> None:
        self._proxy.order(*["request"] * self._chance.randint(1, 5))

    def lose_answers(self) -> None:
        """What the server has done, and nobody hears of."""
        self._proxy.order(*self._chance.choices(["answer", "half"], k=self._chance.randint(1, 5)))

    def swallow(self) -> None:
        """No answer for longer than any time-out of a worker's."""
        self._proxy.order(f"{self._chance.choice(['swallow', 'hole'])} {self._chance.uniform(1, self._longest):.1f}")

    def delay(self) -> None:
        """What a worker has given up waiting for is done after all, when it asks for other things already."""
        self._proxy.order(f"late {self._chance.uniform(1, 8):.1f}")

    # --- workers ---------------------------------------------------------------------------------

    def _start(self, clock: Path) -> WorkerProcess:
        """On the machine with that clock."""
        faulty = {"DJANGO_SETTINGS_MODULE": "tests.faulty", "CLOCK_FILE": str(clock)}
        if clock == self._clocks[0]:  # as if all jobs were quick: it sends steps ahead, and has claims in hand
            faulty["QUICK_JOBS"] = "1"
        return self._new_worker({"REDIS_URL": self._proxy.url, **faulty})

    def _any(self) -> WorkerProcess:
        return self._chance.choice([worker for worker in self._workers if worker is not self._frozen])

    def _replace(self, worker: WorkerProcess) -> None:
        at = self._workers.index(worker)
        self._workers[at] = self._start(self._clocks[at])


class ProxyProcess:
    """tests/chaos/proxy.py between workers and this server. It ends with us."""

    def __init__(self, valkey: Valkey) -> None:
        address = valkey.directory.parent / "proxy.sock"
        self.url = f"unix://{address}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.proxy", address, embedded.socket_path(valkey.directory)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
        )
        wait_until(address.exists)

    def order(self, *words: str) -> None:
        self._process.stdin.write("".join(f"{word}\n" for word in words).encode())
        self._process.stdin.flush()

    def stop(self) -> None:
        self._process.communicate()
        assert self._process.returncode == 0
        Path(self.url.removeprefix("unix://")).unlink()


def _children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


def _halt(worker: WorkerProcess) -> list[int]:
    """SIGSTOP to the parent, then to its children. Returns them all."""
    halted = [worker.pid, *_children(worker.pid)]
    for pid in halted:
        _send(signal.SIGSTOP, pid)
    return halted


def _resume(halted: list[int]) -> None:
    for pid in reversed(halted):
        _send(signal.SIGCONT, pid)


def _send(number: int, pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
