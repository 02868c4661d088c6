"""The doctor finds each fault that is planted, and nothing on a healthy system."""

import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from io import StringIO

import django_rq
import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connections
from django.db.migrations.recorder import MigrationRecorder
from django.test import override_settings
from redis.exceptions import RedisError, ResponseError
from rq import Worker
from rq.serializers import JSONSerializer
from rq.suspension import suspend

from config.queues import QUEUES, rq_queues
from jobs import doctor, queues, scheduler
from jobs.broker.connections import get_connection
from jobs.doctor import Severity
from jobs.inspection import version
from jobs.inspection.version import code_version
from jobs.retries import Progress
from jobs.scheduler import Entry
from jobs.worker import heartbeat
from jobs.worker.connection import Wire
from jobs.worker.scoreboard import Board
from tests.jobs.worker import eventually
from tests.jobs.worker.servers import Server
from tests.processes import ROOT, child_environment, wait_until
from tests.sample.commands.notes import Fail, WriteNote

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
KEEPING = ("appendonly yes",)


@pytest.fixture(autouse=True)
def durable(valkey, monkeypatch):
    """As servers of projects are; other tests need no disk. And the machine may be busy."""
    monkeypatch.setattr("jobs.doctor.databases.PATIENCE", 60.0)
    with valkey.client() as client:
        client.config_set("appendfsync", "everysec")
        yield
        client.config_set("appendfsync", "no")


def add_worker(name="w1", *, listed=tuple(QUEUES), **fields):
    """A worker as its parent shows it, with these fields of its record changed."""
    wire = Wire("default")
    heartbeat.beat(wire, name, os.getpid(), time.time(), listed, Board(10))
    heartbeat.register(wire, name, listed)
    wire.close()
    if fields:
        get_connection("default").hset(f"rq:worker:{name}", mapping=fields)


@pytest.fixture
def healthy(valkey):
    add_worker()
    return get_connection("default")


@pytest.fixture
def config(valkey):
    """Set the server's options for one test."""
    client = valkey.client()
    before = {}

    def change(name, value):
        before.setdefault(name, client.config_get(name)[name])
        client.config_set(name, value)

    yield change
    for name, value in before.items():
        client.config_set(name, value)


def whats():
    return [finding.what for finding in doctor.examine()]


@pytest.mark.processes
def test_nothing_is_found_on_a_healthy_system(worker_process, valkey, settings):
    # This process may know more commands than the worker's: those that other test modules define.
    settings.JOBS = {**settings.JOBS, "VERSION": "1"}
    worker_process(*QUEUES, concurrency=2, env={"VERSION": "1"})
    scheduler.add(Entry("hourly", WriteNote, args=("x",), every=3_600))
    done, later = WriteNote.defer("done"), WriteNote.defer("later", wait=1_000)
    eventually(lambda: done.state == "finished" and valkey.client().exists("rq:scheduler_lock"))

    assert whats() == []
    assert later.state == "scheduled"


def test_nothing_is_found_while_jobs_wait_for_a_moment(healthy):
    WriteNote.defer("x")
    assert whats() == []


# --- planted in a system that is healthy otherwise ----------------------------------------------


def enqueue_elsewhere(client, config):
    client.sadd("rq:queues", "rq:queue:defualt")
    client.rpush("rq:queue:defualt", "x")


def wait_long(client, config):
    client.hset(WriteNote.defer("x", queue="critical").key, "enqueued_at", "2026-01-01T00:00:00.000000Z")


def pause(client, config):
    WriteNote.defer("x")
    queues.pause("default")


def halt(client, config):
    suspend(client)


def promote_nothing(client, config):
    client.zadd("rq:scheduled:default", {WriteNote.defer("x", wait=1_000).id: time.time() - 60})


def lose_worker(client, config):
    client.delete("rq:worker:w1")
    client.srem("rq:workers", "rq:worker:w1")


def leave_queue(client, config):
    add_worker(listed=[name for name in QUEUES if name != "mailers"])


def serve_unknown(client, config):
    add_worker(listed=[*QUEUES, "defualt"])


def fall_silent(client, config):
    at = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(time.time() - 60))
    add_worker("w2", last_heartbeat=at)


def hire_rqs_own(client, config):
    # With a client of its own: RQ's worker gives the one it gets time-outs of minutes.
    stock = django_rq.get_connection("default")
    Worker(["default"], name="stock", connection=stock, serializer=JSONSerializer).register_birth()


def run_another_release(client, config):
    add_worker("w2", code_version="v41")
    add_worker("w3", code_version="v41")


def kill_jobs(client, config, number=3):
    jobs = Fail.defer_many([(str(each),) for each in range(number)])
    client.delete("rq:queue:default")
    for job in jobs:
        client.hset(job.key, mapping={"status": "failed", "reason": "RuntimeError: x"})
        client.zadd("rq:failed:default", {job.id: time.time() + 1_000})


def kill_many(client, config):
    kill_jobs(client, config, 100)


def block_job(client, config):
    kill_jobs(client, config, 1)
    (dead,) = client.zrange("rq:failed:default", 0, 0)
    WriteNote.defer("x", prereq_jobs=[dead.decode()])


def run_by(client, worker):
    job = WriteNote.defer("x")
    client.lrem("rq:queue:default", 0, job.id)
    started = {"status": "started", "started_at": "2026-01-01T00:00:00.000000Z", "worker_name": worker}
    client.hset(job.key, mapping=started)
    client.zadd("rq:wip:default", {f"{job.id}:{worker}.0": 9e9})


def run_for_days(client, config):
    run_by(client, "w1")


def hold_on_to_jobs(client, config):
    run_by(client, "ghost")


def retry_for_ever(client, config):
    job = Fail.defer()
    client.lrem("rq:queue:default", 0, job.id)
    fields = {"status": "scheduled", "state": "retrying", "reason": "SMTPException: no", "progress": progress(20)}
    client.hset(job.key, mapping=fields)
    client.zadd("rq:scheduled:default", {job.id: time.time() + 1_000})


def progress(attempts):
    return Progress(attempts=attempts).dump()


def stop_scheduling(client, config):
    scheduler.add(Entry("hourly", WriteNote, args=("x",), every=3_600))


def fall_behind(client, config):
    client.set("rq:scheduler_lock", "somebody", px=60_000)
    scheduler.add(Entry("hourly", WriteNote, args=("x",), every=3_600))
    client.zadd("rq:scheduler:scheduled_jobs", {"entry-hourly": time.time() - 60})


def fail_entry(client, config):
    client.set("rq:scheduler_lock", "somebody", px=60_000)
    scheduler.add(Entry("hourly", WriteNote, args=("x",), every=3_600))
    for n in range(3):
        client.lpush("jobs:schedule:runs:entry-hourly", json.dumps({"what": "run", "id": f"r{n}", "at": n}))
        client.hset("jobs:schedule:ended:entry-hourly", f"r{n}", "dead")


def evict(client, config):
    config("maxmemory", "100mb")
    config("maxmemory-policy", "allkeys-lru")


def evict_some_day(client, config):
    config("maxmemory-policy", "volatile-ttl")


def fill(client, config):
    config("maxmemory", str(int(client.info("memory")["used_memory"] * 0.9)))


def crowd(client, config):
    config("maxclients", str(client.info("clients")["connected_clients"]))


def write_nothing(client, config):
    config("appendonly", "no")
    config("save", "")


def write_rarely(client, config):
    config("appendonly", "no")
    config("save", "3600 1")


def write_late(client, config):
    config("appendfsync", "no")


FAULTS = {
    "a misspelt queue": (
        enqueue_elsewhere,
        WARNING,
        "1 job is in the queue 'defualt', which this project does not have.",
        "The queues are: critical, default, mailers, background, low.",
    ),
    "a queue behind its target": (
        wait_long,
        WARNING,
        "The first job of the queue critical has waited",
        "python manage.py rqworker critical --processes 2",
    ),
    "a paused queue": (
        pause,
        WARNING,
        "The queue default is paused, and 1 job waits in it.",
        "python manage.py jobs resume default",
    ),
    "queues halted by RQ": (
        halt,
        ERROR,
        "The queues critical, default, mailers, background, low are halted by `rq suspend`.",
        "rq resume",
    ),
    "nobody promotes": (
        promote_nothing,
        ERROR,
        "1 scheduled job of the queue default should have started 30 s ago or earlier.",
        "Start a worker",
    ),
    "no worker": (
        lose_worker,
        ERROR,
        "No worker is running.",
        "python manage.py rqworker critical default mailers background low",
    ),
    "a queue without a worker": (
        leave_queue,
        ERROR,
        "No worker serves the queue mailers.",
        "python manage.py rqworker mailers",
    ),
    "a worker of a misspelt queue": (
        serve_unknown,
        WARNING,
        "The worker w1 serves 'defualt', which this project does not have.",
        "Start it anew",
    ),
    "a silent worker": (fall_silent, WARNING, "The worker w2 has not been heard of for 6", "Look at its machine"),
    "a worker of RQ's own": (
        hire_rqs_own,
        ERROR,
        "is RQ's own, not this package's.",
        "start in its place: python manage.py rqworker default",
    ),
    "another release": (
        run_another_release,
        WARNING,
        "2 workers run the code version 'v41', here it is 'commands-",
        "start the workers anew",
    ),
    "dead jobs": (
        kill_jobs,
        NOTE,
        "Dead jobs: 3; of the first 1,000: 3 RuntimeError.",
        "python manage.py jobs list --state dead --error RuntimeError",
    ),
    "many dead jobs": (kill_many, WARNING, "Dead jobs: 100; of the first 1,000: 100 RuntimeError.", "jobs retry"),
    "a job that runs for days": (
        run_for_days,
        WARNING,
        "has been running since 01 Jan",
        "python manage.py jobs cancel",
    ),
    "jobs of a worker that is gone": (
        hold_on_to_jobs,
        ERROR,
        "1 job is held by workers that are gone: ghost.",
        "Start a worker",
    ),
    "a job retried for ever": (
        retry_for_ever,
        WARNING,
        "1 job of sample.Fail failed 14 times or more, to be retried still (SMTPException).",
        "python manage.py jobs retry --state retrying --command sample.Fail",
    ),
    "nobody schedules": (
        stop_scheduling,
        ERROR,
        "Nobody schedules: there are 1 recurring entries, and no process holds the lease.",
        "python manage.py rqscheduler",
    ),
    "a late entry": (fall_behind, ERROR, "The most overdue recurring entry is 6", "Look for errors in the logs"),
    "an entry whose runs die": (
        fail_entry,
        WARNING,
        "The last 3 runs of the recurring entry 'hourly' died.",
        "the dashboard's page Recurring",
    ),
    "a server that evicts": (
        evict,
        ERROR,
        "evicts keys when it is full (maxmemory-policy allkeys-lru).",
        "CONFIG SET maxmemory-policy noeviction",
    ),
    "a server that would evict": (
        evict_some_day,
        WARNING,
        "evicts keys when it is full (maxmemory-policy volatile-ttl); without maxmemory it is never full, yet.",
        "CONFIG SET maxmemory-policy noeviction",
    ),
    "a full server": (fill, WARNING, "% full.", "python manage.py jobs delete --state dead"),
    "a crowded server": (crowd, WARNING, " connections.", "CONFIG SET maxclients"),
    "a server without a disk": (write_nothing, WARNING, "writes nothing to disk.", "CONFIG SET appendonly yes"),
    "a server that writes now and then": (
        write_rarely,
        WARNING,
        "writes to disk now and then alone (save, without appendonly).",
        "CONFIG SET appendonly yes",
    ),
    "a server that writes late": (write_late, WARNING, "(appendfsync no).", "CONFIG SET appendfsync everysec"),
}


@pytest.mark.parametrize(("plant", "severity", "what", "mend"), FAULTS.values(), ids=FAULTS)
def test_each_planted_fault_is_found_and_nothing_else(plant, severity, what, mend, healthy, config):
    plant(healthy, config)
    (finding,) = doctor.examine()

    assert what in finding.what
    assert finding.severity == severity
    assert finding.why
    assert mend in finding.mend


def test_a_cause_that_many_workers_have_is_one_finding(healthy, config):
    at = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(time.time() - 60))
    for number in range(7):
        add_worker(f"silent{number}", last_heartbeat=at, hostname=f"host{number % 2}")
    for number in range(3):
        add_worker(f"lost{number}", listed=[*QUEUES, "defualt"])
    silent, lost = sorted(doctor.examine(), key=lambda finding: "defualt" in finding.what)

    assert re.match(
        r"7 workers \((silent\d, ){5}\.\.\.\) have not been heard of for 6\d s at most\.",
        silent.what,
    )
    assert re.search(r"Look at their machines and logs: host\d, host\d\.", silent.mend)
    assert re.match(r"3 workers \(lost\d, lost\d, lost\d\) serve 'defualt'", lost.what)
    assert "Start them anew" in lost.mend


def test_a_key_of_another_type_is_named_where_it_was_put(healthy):
    client = get_connection("default")
    client.set("rq:canceled:default", "somebody's")
    WriteNote.defer("x", wait=60).cancel()
    (finding,) = doctor.examine()

    assert finding.severity == WARNING
    assert "had something else in the key 'rq:canceled:default'" in finding.what
    assert "redis-cli DEL jobs:aside:rq:canceled:default" in finding.mend
    assert client.get("jobs:aside:rq:canceled:default") == b"somebody's"
    client.delete("jobs:aside:rq:canceled:default", "jobs:aside")


def test_what_a_name_in_redis_holds_does_not_run_in_the_shell_of_whoever_pastes_the_remedy(healthy):
    client = get_connection("default")
    client.set("rq:job:x; touch /tmp/y\n$(z)", "somebody's")
    (finding,) = doctor.examine()

    assert finding.mend.endswith("redis-cli DEL 'rq:job:x; touch /tmp/y\\n$(z)'")


UNSCHEDULED = [Entry("never", WriteNote, args=("x",), cron="0 0 30 2 *")]


def test_an_entry_that_cannot_work_is_named(healthy, settings):
    settings.JOBS = settings.JOBS | {"SCHEDULE": f"{__name__}.UNSCHEDULED"}
    (finding,) = doctor.examine()

    assert finding.severity == ERROR
    assert "The recurring entry 'never': cron='0 0 30 2 *' never comes: there is no such date." in finding.what


def test_a_blocked_job_is_found_with_what_blocks_it(healthy, config):
    block_job(healthy, config)
    (dead,) = healthy.zrange("rq:failed:default", 0, 0)
    blocked, _ = doctor.examine()

    assert blocked.severity == WARNING
    assert blocked.what == (f"Jobs blocked by prerequisites that ended badly: 1, the first by job {dead.decode()}.")
    assert f"python manage.py jobs retry {dead.decode()}" in blocked.mend


def test_dead_jobs_that_are_about_to_go_are_found(healthy, config, settings):
    settings.JOBS = settings.JOBS | {"DEAD_LIMIT": 3}
    kill_jobs(healthy, config)

    assert whats()[0] == "The queue default keeps 3 dead jobs; of more than 3 the oldest go."


# --- servers of other kinds ---------------------------------------------------------------------


@pytest.fixture
def server(tmp_path, settings, monkeypatch):
    """`server(*lines)`: this test's jobs are on a server with these lines in its configuration, with a worker."""
    with ExitStack() as running:

        def start(*lines, name="own", worker=True):
            started = running.enter_context(Server(tmp_path / name, *lines))
            started.use(settings, monkeypatch)
            if worker:
                add_worker()
            return started

        yield start


def test_a_server_without_blmove(server):
    server(*KEEPING, 'rename-command BLMOVE ""')
    (finding,) = doctor.examine()

    assert "has no BLMOVE: workers ask it for jobs every 50 ms." in finding.what
    assert finding.severity == NOTE


def test_a_cluster(server):
    server(*KEEPING, "cluster-enabled yes", worker=False)

    assert any("runs as Redis Cluster." in what for what in whats())


def test_a_replica(server):
    primary = server(*KEEPING, name="primary")
    replica = server(*KEEPING, f"replicaof 127.0.0.1 {primary.port}", name="replica", worker=False)
    with replica.client() as client:
        eventually(lambda: client.info("replication")["master_link_status"] == "up")
    (finding,) = doctor.examine()

    assert "is a replica." in finding.what
    assert finding.severity == ERROR


def test_a_disk_that_cannot_be_written(server):
    own = server(*KEEPING)
    (own.directory / "dump.rdb").mkdir()
    with own.client() as client:
        client.bgsave()
        eventually(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
    (finding,) = doctor.examine()

    assert "could not write to disk (rdb_last_bgsave_status)." in finding.what
    assert finding.severity == ERROR


def test_a_server_that_is_too_old(server, settings):
    """A real one, whose word for its own version is changed on the way."""
    own = server(*KEEPING)
    with own.client() as client:
        version = client.info("server")["redis_version"].encode()
    with OlderOnTheWay(own.port, version, b"4.0.9") as port:
        settings.RQ_QUEUES = rq_queues(f"redis://127.0.0.1:{port}/0")
        (finding,) = doctor.examine()

    assert "is 4.0.9, which is too old: 5.0 is the oldest that will do." in finding.what
    assert finding.severity == ERROR


class OlderOnTheWay:
    """A proxy that changes these bytes in what the server says."""

    def __init__(self, port, old, new):
        assert len(old) == len(new)
        self.port, self.old, self.new = port, old, new
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.sockets = [self.listener]

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        return self.listener.getsockname()[1]

    def accept(self):
        try:
            while True:
                inside, _ = self.listener.accept()
                outside = socket.create_connection(("127.0.0.1", self.port))
                self.sockets += [inside, outside]
                for source, target, change in ((inside, outside, False), (outside, inside, True)):
                    threading.Thread(target=self.pass_on, args=(source, target, change), daemon=True).start()
        except OSError:
            pass

    def pass_on(self, source, target, change):
        try:
            while data := source.recv(65_536):
                target.sendall(data.replace(self.old, self.new) if change else data)
        except OSError:
            pass

    def __exit__(self, *error):
        for each in self.sockets:
            each.close()


def test_a_server_that_does_not_answer(tmp_path):
    with override_settings(RQ_QUEUES=rq_queues(f"unix://{tmp_path}/none.sock")):
        (finding,) = doctor.examine()
    assert "none.sock does not answer" in finding.what
    assert finding.severity == ERROR


def test_a_client_that_cannot_be_used_is_no_server_that_is_away(healthy, monkeypatch):
    def refuse(client):
        raise RedisError("Notifications need another parser!")

    monkeypatch.setattr("redis.Redis.ping", refuse)
    (finding,) = doctor.examine()
    assert finding.what.endswith("cannot be used: Notifications need another parser!")
    assert "Correct what the error names" in finding.mend


def test_a_server_without_an_address():
    with override_settings(RQ_QUEUES=rq_queues("")):
        assert "Queue 'critical' has no Redis. Set REDIS_URL" in whats()[0]


def test_a_server_that_refuses_in_the_midst(healthy, monkeypatch):
    def refuse():
        raise ResponseError("NOPERM this user has no permissions")

    monkeypatch.setattr("jobs.doctor.queues.samples.measure", refuse)
    assert whats() == [
        "The queues could not be examined to the end: ResponseError: NOPERM this user has no permissions"
    ]


def test_a_clock_that_differs(healthy, monkeypatch):
    real = time.time
    monkeypatch.setattr("jobs.doctor.servers.time.time", lambda: real() + 10)
    assert any("This machine's clock is 10 s ahead of" in what for what in whats())
    monkeypatch.setattr("jobs.doctor.servers.time.time", lambda: real() - 10)
    assert any("This machine's clock is 10 s behind that of" in what for what in whats())


# --- the project and its databases --------------------------------------------------------------


def test_a_database_that_is_down(healthy, monkeypatch):
    connect = type(connections["default"]).ensure_connection

    def down(connection):
        if connection.alias == "default":
            raise OperationalError("connection refused\nmore")
        connect(connection)

    monkeypatch.setattr(type(connections["default"]), "ensure_connection", down)
    assert whats() == ["The database 'default' cannot be reached: connection refused"]


@pytest.mark.processes
def test_a_database_that_takes_calls_and_never_answers(healthy):
    with socket.create_server(("127.0.0.1", 0)) as hole:
        url = f"postgres://jiki:x@127.0.0.1:{hole.getsockname()[1]}/jiki"
        said = subprocess.run(
            [sys.executable, "manage.py", "jobs_doctor", "--json"],
            cwd=ROOT,
            env=child_environment(DATABASE_URL=url),
            capture_output=True,
            timeout=60,  # libpq itself would wait for ever
        )

    found = [(each["severity"], each["what"]) for each in json.loads(said.stdout)]
    assert ("error", "The database 'default' cannot be reached: no answer within 3 s") in found
    assert said.returncode == 2


def test_migrations_that_are_missing(healthy):
    recorder = MigrationRecorder(connections["default"])
    recorder.record_unapplied("jobs", "0007_cursor")
    try:
        (finding,) = doctor.examine()
    finally:
        recorder.record_applied("jobs", "0007_cursor")

    assert finding.what == "1 migration is not applied: jobs.0007_cursor."
    assert (finding.severity, finding.mend) == (ERROR, "python manage.py migrate")


def test_settings_that_do_not_fit(healthy, settings):
    settings.RQ_QUEUES = settings.RQ_QUEUES | {"more": settings.RQ_QUEUES["low"]}
    (finding,) = doctor.examine()
    assert "RQ_QUEUES has ['background', 'critical', 'default', 'low', 'mailers', 'more'], but" in finding.what
    assert "(jobs.E002)" in finding.what
    assert finding.severity == ERROR
    assert "Give both the same queues" in finding.mend


def test_settings_with_which_nothing_can_be_examined(healthy, settings):
    settings.JOBS = settings.JOBS | {"QUEUES": QUEUES | {"more": ""}}

    assert ["jobs.E002" in what or what.endswith("to the end: KeyError: 'more'") for what in whats()] == [True, True]


@pytest.mark.processes
def test_a_worker_of_another_release(worker_process, settings):
    worker_process(*QUEUES, concurrency=2, env={"VERSION": "v41"})
    settings.JOBS = settings.JOBS | {"VERSION": "v42"}

    (what,) = whats()
    assert what.startswith("1 worker runs the code version 'v41', here it is 'v42': ")
    settings.JOBS = settings.JOBS | {"VERSION": "v41"}
    assert whats() == []


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_web_process_of_another_release(path, healthy, client, settings, monkeypatch):
    monkeypatch.setattr(version, "_published_at", -math.inf)
    monkeypatch.setattr("jobs.health.PATIENCE", 30.0)  # the machine may be busy
    add_worker(code_version="v42")
    settings.JOBS = settings.JOBS | {"VERSION": "v41"}
    assert client.get(path).status_code == 200
    wait_until(version.published)
    settings.JOBS = settings.JOBS | {"VERSION": "v42"}

    name = f"{socket.gethostname()}:{os.getpid()}"
    assert whats() == [f"1 web process runs the code version 'v41', here it is 'v42': {name}."]
    assert 0 < healthy.ttl("jobs:web") <= version.PUBLISHED_FOR

    healthy.zadd("jobs:web", {f"{name} v41": time.time() - version.PUBLISHED_FOR})  # then it was the last time
    assert whats() == []


def test_a_web_process_tells_it_now_and_then_and_not_each_time(healthy, client, settings, monkeypatch):
    monkeypatch.setattr(version, "_published_at", -math.inf)
    settings.JOBS = settings.JOBS | {"VERSION": "v41"}
    client.get("/healthz")
    wait_until(version.published)
    healthy.delete("jobs:web")
    for _ in range(3):
        client.get("/healthz")
    version._publishing.answer(time.monotonic() + 30)

    assert version.published() == {}


def test_the_digest_tells_commands_apart(monkeypatch):
    from jobs.record import registry

    before, known = code_version(), registry.all_commands()
    assert code_version() == before
    assert before.startswith("commands-")
    monkeypatch.setattr(registry, "all_commands", lambda: known | {"sample.Fail": WriteNote})
    assert code_version() != before


# --- the command --------------------------------------------------------------------------------


@pytest.mark.parametrize(("plant", "status"), [(None, 0), (kill_jobs, 0), (fall_silent, 1), (lose_worker, 2)])
def test_the_command_ends_with_the_worst_severity(plant, status, healthy, config):
    if plant:
        plant(healthy, config)
    said = StringIO()
    ended = 0
    try:
        call_command("jobs_doctor", stdout=said)
    except CommandError as error:
        ended = error.returncode
    assert ended == status
    assert ("All is well." in said.getvalue()) == (plant is None)


def test_as_json(healthy, config):
    lose_worker(healthy, config)
    said = StringIO()
    with pytest.raises(CommandError, match="exit code 2"):
        call_command("jobs_doctor", json=True, stdout=said)
    (finding,) = json.loads(said.getvalue())
    assert list(finding) == ["severity", "what", "why", "mend"]
    assert finding["severity"] == "error"
    assert finding["what"] == "No worker is running."
    assert "rqworker" in finding["mend"]


@pytest.mark.processes
def test_it_watches_until_ctrl_c(healthy):
    process = subprocess.Popen(
        [sys.executable, "manage.py", "jobs_doctor", "--watch", "--json", "--interval", "0.05"],
        cwd=ROOT,
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        looks = [json.loads(process.stdout.readline()) for _ in range(3)]
        assert all(isinstance(look, list) for look in looks)
        process.send_signal(signal.SIGINT)
        _, complained = process.communicate(timeout=30)
    assert process.returncode == 130
    assert complained == b""


def test_an_impossible_interval_is_refused():
    with pytest.raises(CommandError, match="--interval 0 is impossible"):
        call_command("jobs_doctor", interval=0)
