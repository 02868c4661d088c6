"""A server that answers with errors: the worker waits, survives, and commits its finished jobs."""

import time

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError

from jobs.queues import get_queue
from jobs.worker.fetch import LONGEST_WAIT
from tests.chaos.faults import ProxyProcess
from tests.jobs.worker import eventually
from tests.jobs.worker.servers import Server
from tests.sample import functions
from tests.sample.commands.long import Patient
from tests.sample.commands.notes import WriteNote
from tests.sample.models import Note

processes = pytest.mark.processes
pytestmark = pytest.mark.django_db(transaction=True)

DURABLE = ("appendonly yes", "appendfsync no", "maxmemory-policy noeviction")


@pytest.fixture
def server(tmp_path, settings, monkeypatch):
    with Server(tmp_path / "server", *DURABLE) as server:
        server.use(settings, monkeypatch)
        yield server


@pytest.fixture
def patient(tmp_path):
    """`patient("x")`: a job that runs, until its `release` is touched."""

    def new(name):
        started, release = tmp_path / f"{name} started", tmp_path / f"{name} release"
        job = Patient.defer(str(started), str(release))
        eventually(started.exists)
        job.release = release
        return job

    return new


def is_over(job):
    """Whether its call has ended, by its record in the database."""
    return Note.objects.filter(text=str(job.release)).exists()


def become_replica(client):
    client.replicaof("127.0.0.1", 1)  # of nobody: nothing is copied over what is here


def become_deaf_replica(client):
    client.config_set("replica-serve-stale-data", "no")
    become_replica(client)


def be_promoted(client):
    client.replicaof("no", "one")


def ask_for_a_password(client):
    client.config_set("requirepass", "hunter2")
    client.client_kill_filter(_type="normal", skipme=True)
    client.client_kill_filter(_type="pubsub")


# What the server says, and how it comes and goes.
REPLIES = {
    "READONLY": (become_replica, be_promoted),
    "MASTERDOWN": (become_deaf_replica, be_promoted),
    "OOM": (lambda client: client.config_set("maxmemory", "1mb"), lambda client: client.config_set("maxmemory", "0")),
    "NOAUTH": (ask_for_a_password, lambda client: client.config_set("requirepass", "")),
    "NOSCRIPT": (lambda client: client.script_flush(), lambda client: None),
}


@processes
def test_the_worker_survives_whatever_the_server_replies(server, worker_process, patient):
    worker = worker_process("default", "low", concurrency=2)
    with server.client() as client:
        for reply, (begin, end) in REPLIES.items():

            def count(reply=reply):
                return client.info("errorstats").get(f"errorstat_{reply}", {"count": 0})["count"]

            job, before = patient(reply), count()
            begin(client)
            job.release.touch()
            eventually(lambda job=job: is_over(job))
            eventually(lambda before=before: count() > before)
            end(client)
            eventually(lambda job=job: job.state == "finished")
            after = WriteNote.defer(reply)
            eventually(lambda after=after: after.state == "finished")

    assert Note.objects.count() == 2 * len(REPLIES)
    assert "interrupted" not in worker.output
    assert "died" not in worker.output
    assert worker.stop() == 0


@processes
def test_a_plain_job_waits_for_the_server_to_take_its_outcome(server, worker_process, tmp_path):
    queue, release = get_queue("default"), tmp_path / "release"
    done = queue.enqueue(functions.wait, str(release))
    failed = queue.enqueue(functions.wait_and_fail, str(release))
    worker_process("default", concurrency=2)
    eventually(lambda: Note.objects.filter(text="begun").count() == 2)
    server.kill()
    release.touch()
    eventually(lambda: Note.objects.filter(text="over").count() == 2)
    server.start()
    eventually(lambda: done.get_status() == "finished")
    eventually(lambda: failed.get_status() == "failed")

    assert failed.latest_result().exc_string.strip().endswith("RuntimeError: no luck")
    assert Note.objects.count() == 4


@processes
def test_a_server_that_loads_its_data_is_waited_for(tmp_path, settings, monkeypatch, worker_process, patient):
    # 20 ms a key, after each of which it listens to clients.
    slowly = ("key-load-delay 20000", "loading-process-events-interval-bytes 1024", "rdbcompression no")
    with Server(tmp_path / "server", *slowly) as server:
        server.use(settings, monkeypatch)
        worker = worker_process("default")
        job = patient("x")
        with server.client() as client:
            client.mset({f"much-{number}": "x" * 2_000 for number in range(200)})
            client.save()
            server.kill()
            server.start(loaded=False)
            job.release.touch()
            eventually(lambda: client.info("errorstats").get("errorstat_LOADING", {"count": 0})["count"] > 1)
        eventually(server.answers)
        eventually(lambda: job.state == "finished")
        assert Note.objects.count() == 1
        assert worker.stop() == 0


@processes
def test_connections_that_hang_are_given_up(valkey, worker_process, patient):
    """Half-open ones: every open connection accepts data and returns nothing, for longer than the test lasts."""
    proxy = ProxyProcess(valkey)
    try:
        impatient = {"DJANGO_SETTINGS_MODULE": "tests.faulty", "PATIENCE": "1", "REDIS_URL": proxy.url}
        worker = worker_process("default", "low", concurrency=1, env=impatient)
        job = patient("x")
        proxy.order("swallow 60")
        job.release.touch()
        eventually(lambda: job.state == "finished", timeout=40)
        with valkey.client() as client:

            def is_waited_for():  # one connection waits at each queue
                return client.info("clients")["blocked_clients"] == 2

            eventually(is_waited_for)
            proxy.order("swallow 60")
            after = WriteNote.defer("after", queue="low")
            eventually(lambda: after.state == "finished", timeout=40)
            eventually(is_waited_for)
        assert Note.objects.count() == 2
        assert worker.stop() == 0
    finally:
        proxy.stop()


@processes
def test_a_server_without_blmove_is_polled(tmp_path, settings, monkeypatch, worker_process):
    with Server(tmp_path / "server", 'rename-command BLMOVE ""') as server:
        server.use(settings, monkeypatch)
        worker = worker_process("critical", "default", "low", processes=2)
        for queue in ("low", "critical", "default"):
            job = WriteNote.defer(queue, queue=queue)
            eventually(lambda job=job: job.state == "finished")
        assert worker.stop() == 0
        assert worker.output.count("this Redis has no BLMOVE") == 1
        assert "cannot wait for work" not in worker.output


class Clock:
    """Replaces the event that a fetch waits with."""

    def __init__(self):
        self.waited = []

    def wait(self, seconds):
        self.waited.append(seconds)


@pytest.mark.parametrize("error", [RedisConnectionError("gone"), ReadOnlyError("READONLY")])
def test_failing_steps_are_retried_ever_later(error, new_fetch, monkeypatch):
    fetch = new_fetch("w1")
    fetch._stopped = Clock()

    def fail(*args):
        raise error

    monkeypatch.setattr(fetch._wire, "run", fail)
    for _ in range(10):
        assert fetch._look()

    assert fetch._stopped.waited[:3] == [0.05, 0.1, 0.2]
    assert fetch._stopped.waited[-1] == LONGEST_WAIT


def test_a_failing_doorbell_is_retried_ever_later_and_logged_once(new_fetch, monkeypatch, caplog):
    fetch = new_fetch("w1")
    fetch._stopped = Clock()

    def refuse(*args, **options):
        raise ResponseError("OOM command not allowed")

    with monkeypatch.context() as broken:
        broken.setattr(fetch._doorbell, "wait", refuse)
        for _ in range(10):
            fetch._await_work()
    assert fetch._stopped.waited[:3] == [0.05, 0.1, 0.2]
    assert fetch._stopped.waited[-1] == LONGEST_WAIT
    assert caplog.text.count("cannot wait for work") == 1

    fetch._doorbell.ring()
    fetch._await_work()
    assert fetch._doorbell_pause == 0.0


def test_a_burst_that_may_not_claim_does_not_treat_queues_as_empty(new_fetch, valkey):
    """As after an outage: its parent has not beaten yet."""
    WriteNote.defer("x")
    fetch = new_fetch("w1", burst=True)
    fetch._stopped = Clock()
    valkey.client().zadd("jobs:workers", {"w1": 1})
    assert not fetch._look()
    assert not fetch.stopping

    valkey.client().zadd("jobs:workers", {"w1": time.time()})
    assert fetch._look()
