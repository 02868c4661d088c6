"""A failover with real Sentinels, under load: workers connect to the new primary, and run all jobs that it has."""

import contextlib
import itertools
import socket
import threading
from collections import Counter

import pytest
from redis.exceptions import RedisError

from jobs.errors import RedisUnavailableError
from tests.jobs.worker import eventually
from tests.jobs.worker.servers import Server
from tests.sample.commands.notes import WriteNote
from tests.sample.models import Note
from tests.sentinel import MASTER_NAME, rq_queues

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

DURABLE = ("appendonly yes", "appendfsync always", "repl-diskless-sync-delay 0")


@pytest.fixture
def cluster(tmp_path, settings, monkeypatch):
    """A primary, its replica, and three Sentinels that monitor both. A fourth, which is asked first, never answers."""
    with contextlib.ExitStack() as servers:
        primary = servers.enter_context(Server(tmp_path / "primary", *DURABLE))
        replica = Server(tmp_path / "replica", *DURABLE, f"replicaof 127.0.0.1 {primary.port}")
        servers.enter_context(replica)
        watch = f"sentinel monitor {MASTER_NAME} 127.0.0.1 {primary.port} 2"
        times = {"down-after-milliseconds": 60_000, "failover-timeout": 3_000}  # a busy machine fails over to nobody
        lines = [watch, *(f"sentinel {name} {MASTER_NAME} {time}" for name, time in times.items())]
        sentinels = [servers.enter_context(Server(tmp_path / f"sentinel-{n}", *lines)) for n in range(3)]
        for sentinel in sentinels:
            with sentinel.client() as client:
                eventually(lambda client=client: knows_all(client))
        deaf = servers.enter_context(socket.socket())
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        ports = [sentinel.port for sentinel in sentinels]
        settings.RQ_QUEUES = rq_queues([deaf.getsockname()[1], *ports])
        monkeypatch.setenv("SENTINELS", ",".join(map(str, ports)))
        monkeypatch.setenv("REDIS_URL", primary.url)
        yield primary, replica, sentinels


def knows_all(sentinel):
    state = sentinel.sentinel_master(MASTER_NAME)
    return (state["num-slaves"], state["num-other-sentinels"]) == (1, 2)


class Load:
    """Defers jobs one after the other, and records which were accepted."""

    def __init__(self):
        self.accepted, self.refused = {}, []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        for number in itertools.count():
            if self._ended.wait(0.002):
                return
            try:
                self.accepted[number] = WriteNote.defer(str(number))
            except (RedisUnavailableError, RedisError):
                self.refused.append(number)

    def grow(self, by):
        """Wait until that many more are accepted. Returns all accepted jobs."""
        enough = len(self.accepted) + by
        eventually(lambda: len(self.accepted) >= enough, timeout=60)
        return set(self.accepted)

    def end(self):
        self._ended.set()
        self._thread.join()


@pytest.fixture
def load(cluster):
    load = Load()
    yield load
    load.end()  # also if the test has failed: the thread would defer into later tests


def test_workers_follow_a_failover(cluster, load, worker_process, capsys):
    primary, replica, sentinels = cluster
    found_through_sentinels = {"DJANGO_SETTINGS_MODULE": "tests.sentinel"}
    workers = [worker_process("default", concurrency=2, env=found_through_sentinels) for _ in range(2)]
    replicated = load.grow(by=200)
    with primary.client() as client:
        assert client.wait(1, 30_000) == 1
    load.grow(by=50)
    for sentinel in sentinels:
        with sentinel.client() as client:
            client.sentinel_set(MASTER_NAME, "down-after-milliseconds", 500)
    before = len(load.refused)
    primary.kill()
    failed_first = eventually(lambda: load.refused[before:])[0]
    load.grow(by=200)
    load.end()
    after = {number for number in load.accepted if number > failed_first}

    with replica.client() as client:
        eventually(lambda: client.exists("rq:queue:default", "rq:wip:default") == 0, timeout=90)
    runs = Counter(int(text) for text in Note.objects.values_list("text", flat=True))
    accepted = set(load.accepted)
    finished = {number for number, job in load.accepted.items() if job.state == "finished"}
    lost = accepted - finished
    with capsys.disabled():
        twice = sum(runs[number] > 1 for number in accepted)
        print(f"\nfailover: accepted={len(accepted)} finished={len(finished)} lost={len(lost)} run_twice={twice}")

    assert replicated | after <= finished
    assert finished <= runs.keys()
    assert [worker.process.poll() for worker in workers] == [None, None]
    assert [worker.stop() for worker in workers] == [0, 0]
