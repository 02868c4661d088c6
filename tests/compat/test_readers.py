"""Every reader of RQ and django-rq over claims that no worker beats for: none of them fails, moves or forgets a job."""

import inspect
import subprocess
import sys
import time
from pathlib import Path

import django_rq
import django_rq.urls
import pytest
from django.core.management import call_command
from django.urls import reverse
from rq import Queue, Worker, registry
from rq.executions import ExecutionRegistry
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.worker_registration import clean_worker_registry

from jobs.broker.connections import get_connection
from jobs.worker import heartbeat
from jobs.worker.connection import Wire
from jobs.worker.fetch import Fetch
from jobs.worker.recovery import recover
from jobs.worker.scoreboard import Board
from tests.jobs.worker import eventually
from tests.sample.commands.notes import WriteNote

pytestmark = pytest.mark.django_db(transaction=True)

REGISTRIES = [
    kind
    for _, kind in inspect.getmembers(registry, inspect.isclass)
    if issubclass(kind, registry.BaseRegistry) and kind is not registry.BaseRegistry
]
INFO = [[], ["--by-queue"], ["--only-queues"], ["--only-workers"], ["--raw"], ["default"]]
TEN_YEARS = 10 * 365 * 24 * 3_600  # seconds


@pytest.fixture
def held():
    """Six jobs. Three were claimed by a worker of which nothing is left but RQ's record of one execution."""
    jobs = WriteNote.defer_many([(str(n),) for n in range(6)])
    get_connection("default").zadd("jobs:workers", {"gone": time.time()})
    board = Board(3)
    fetch = Fetch("gone", {"default": None}, threads=3, board=board, blocks=True, release=lambda job_id, queue: None)
    fetch._step(claims=True)
    claim = fetch._ready[0]
    board.start(0, time.monotonic() - 60, 0.0, claim.id, claim.execution, claim.queue)
    heartbeat.beat(Wire("default"), "gone", 1, time.time(), ["default"], board)
    heartbeat.unregister(Wire("default"), "gone", ["default"])
    return jobs


def read_registries(job):
    client = get_connection("default")
    for kind in REGISTRIES:
        found = kind("default", client, job_class=Job, serializer=JSONSerializer)
        assert found.count == found.get_job_count(cleanup=False) == len(found)
        assert len(found.get_job_ids()) == len(found.get_job_ids(cleanup=False)) == found.count
        assert (job in found) == (kind is registry.StartedJobRegistry)
        found.get_queue()
    started = registry.StartedJobRegistry("default", client, job_class=Job, serializer=JSONSerializer)
    assert started.count == 3
    started.cleanup(timestamp=time.time() + TEN_YEARS)
    assert started.count == 3


def read_queues_and_jobs(job):
    client = get_connection("default")
    queue = Queue("default", connection=client, serializer=JSONSerializer)
    assert (queue.count, len(queue.get_job_ids()), len(queue.get_jobs()), queue.is_empty()) == (3, 3, 3, False)
    assert [found.name for found in Queue.all(client)] == ["default"]
    read = Job.fetch(job.id, connection=client, serializer=JSONSerializer)
    assert read.get_status() == "started"
    assert [execution.job_id for execution in read.get_executions()] == [job.id]
    assert len(ExecutionRegistry(job.id, client).get_execution_ids()) == 1
    assert (read.latest_result(), read.get_position()) == (None, None)


def read_workers(job):
    client = django_rq.get_connection("default")  # RQ's worker gives the client it gets time-outs of minutes
    queue = Queue("default", connection=client, serializer=JSONSerializer)
    assert Worker.all(connection=client) == Worker.all(queue=queue) == []
    assert Worker.count(connection=client) == Worker.count(queue=queue) == 0
    assert Worker.find_by_key("rq:worker:gone", connection=client) is None
    clean_worker_registry(queue)
    registry.clean_registries(queue)
    stock = Worker([queue], connection=client, serializer=JSONSerializer)
    stock.clean_registries()
    stock.run_maintenance_tasks()


def read_the_command_line(valkey):
    for arguments in INFO:
        command = [Path(sys.executable).with_name("rq"), "info", "--url", valkey.url, *arguments]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=20)
        assert shown.returncode == 0, shown.stderr
    for options in ({}, {"json": True}):
        call_command("rqstats", **options)


def read_pages(job, client):
    """Each URL that django-rq has, its metrics where prometheus_client is installed."""
    values = {
        "queue_index": 2,  # of `default`, by name
        "job_id": job.id,
        "result_id": "1-0",
        "key": "rq:worker:gone",
        "scheduler_index": 2,
        "connection_index": 0,
        "scheduler_name": "none",
        "cron_job_name": "none",
        "token": "none",
    }
    nothing_there = {"worker_details", "result_detail", "cron_scheduler_detail", "cron_job_detail"}
    client.raise_request_exception = False  # for a worker that is not there django-rq has no page, and no check
    for pattern in django_rq.urls.urlpatterns:
        names = list(pattern.pattern.converters) or list(pattern.pattern.regex.groupindex)
        address = reverse(f"django_rq:{pattern.name}", kwargs={name: values[name] for name in names})
        status = client.get(address).status_code
        fine = {404, 500} if pattern.name in nothing_there else {200, 302, 405}
        assert status in fine, (address, status)


def test_no_reader_touches_claims_that_no_worker_beats_for(held, admin_client, settings, valkey, places, capsys):
    settings.ROOT_URLCONF = "tests.django_rq_urls"
    before = places()
    for _ in range(2):
        read_registries(held[0])
        read_queues_and_jobs(held[0])
        read_workers(held[0])
        read_pages(held[0], admin_client)
        assert places() == before
    read_the_command_line(valkey)
    assert places() == before

    back, dead = recover(Wire("default"), "default")
    assert ({job_id for job_id, _ in back}, dead) == ({job.id for job in held[:3]}, [])
    listed = get_connection("default").lrange("rq:queue:default", 0, -1)
    assert [job_id.decode() for job_id in listed] == [job.id for job in held]


@pytest.mark.processes
def test_a_worker_that_a_reader_struck_off_is_listed_again(worker_process):
    """As after an outage: its record had expired, and a reader came before its next beat."""
    worker_process("default", name="ours", env={"DJANGO_SETTINGS_MODULE": "tests.faulty", "EVERY": "0.5"})
    client = django_rq.get_connection("default")
    client.delete("rq:worker:ours")
    clean_worker_registry(Queue("default", connection=client))
    eventually(lambda: [worker.name for worker in Worker.all(connection=client)] == ["ours"])
    eventually(lambda: client.smembers("rq:workers:default") == {b"rq:worker:ours"})
