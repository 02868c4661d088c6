"""
Time-outs and cancels at random moments, over commands in all kinds of code: nobody but the victim is harmed.

INTERRUPTS=10000 makes it long; SEED= repeats one.
"""

import os
import random
import threading
import time
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import django_rq
import pytest

from jobs import control
from jobs.backends import RunTask
from jobs.broker.connections import get_connection
from jobs.errors import ChangeRefusedError
from jobs.job import MandateJob
from tests.sample.commands import victims
from tests.sample.commands.victims import Probe, Victim, VictimAsync, VictimInTransaction, VictimWaits
from tests.sample.models import Note

INTERRUPTS = int(os.environ.get("INTERRUPTS", "100"))
AT_ONCE = 60  # jobs in the queues at a time
THREADS = 6
ENDED = {"finished", "dead", "retrying", "cancelled"}

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True), pytest.mark.timeout(300 + INTERRUPTS)]


@pytest.fixture
def address():
    """Of a server that answers everything."""

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def new_victim(chance, address):
    """A job that goes on until it is interrupted, after a time by chance."""
    way, seconds = chance.choice(list(victims.WAYS)), round(chance.uniform(0.01, 0.15), 3)
    kind = chance.choice([Victim, Victim, Victim, VictimInTransaction, VictimAsync, VictimWaits, "plain", "task"])
    if kind is VictimInTransaction:
        way = chance.choice(["nest", "query", "orm", "lock"])
    if isinstance(kind, str):
        is_async = chance.random() < 0.5
        if kind == "plain":
            function = victims.go_on_async if is_async else victims.go_on
            job = django_rq.get_queue("default").enqueue(function, way, address, job_timeout=1, result_ttl=86_400)
            return MandateJob.fetch(job.id, connection=job.connection), "plain", seconds
        function = victims.go_on_as_async_task if is_async else victims.go_on_as_task
        RunTask.timeout = seconds
        result = function.enqueue(way, address)
        return MandateJob.fetch(result.id, connection=get_connection("default")), "task", seconds
    Victim.timeout = kind.timeout = seconds
    return kind.defer(way, address), f"{kind.__name__}.{way}", seconds


@pytest.fixture
def own_limits():
    """The limits that `new_victim` changes are as before."""
    kinds = (RunTask, Victim, VictimInTransaction, VictimAsync, VictimWaits)
    before = {kind: vars(kind).get("timeout") for kind in kinds}
    yield
    for kind, seconds in before.items():
        if seconds is not None:
            kind.timeout = seconds
        elif "timeout" in vars(kind):
            del kind.timeout


def test_an_interrupt_harms_nobody_but_its_job(worker_process, address, own_limits, capsys):
    seed = int(os.environ.get("SEED") or random.randrange(1_000_000))
    chance = random.Random(seed)
    worker = worker_process("critical", "default", concurrency=THREADS, env={"LOG_LEVEL": "WARNING"})
    names = set(get_connection("default").smembers("rq:workers"))
    jobs, to_cancel = {}, {}
    probes, number, begun = {}, 0, time.monotonic()
    ended = Counter()
    while number < INTERRUPTS or jobs or probes:
        while number < INTERRUPTS and len(jobs) < AT_ONCE:
            job, kind, seconds = new_victim(chance, address)
            jobs[number] = (job, kind)
            if chance.random() < 0.3:
                to_cancel[number] = seconds / 2
            probes[number] = Probe.defer(number, address, wait=chance.uniform(0, 2))
            number += 1
        states = {n: job.state for n, (job, _) in jobs.items()}
        for n, state in states.items():
            if state == "running" and n in to_cancel:
                del to_cancel[n]
                with suppress(ChangeRefusedError):  # it has ended meanwhile
                    control.cancel(jobs[n][0])
        for n in [n for n, state in states.items() if state in ENDED]:
            job, kind = jobs.pop(n)
            ended[kind.partition(".")[0], str(states[n])] += 1
            if states[n] in {"dead", "retrying"}:
                assert "TimedOut" in (job.reason or "") or "JobTimeoutException" in (
                    job.reason or job.latest_result().exc_string
                ), (n, kind, job.reason)
                if kind.startswith("Victim"):
                    assert Note.objects.filter(text=f"hook {job.id}").exists(), f"what the hook of {kind} wrote is lost"
            assert states[n] != "finished", (n, kind)
            if states[n] == "retrying":  # a task, of which no one sets how often
                job.cancel()
        for n in [n for n, job in probes.items() if job.state in ENDED]:
            probe = probes.pop(n)
            assert probe.state == "finished", (n, probe.reason, worker.output[-5_000:])
            ended["probe", "slow" if probe.return_value() > 1 else "in time"] += 1
            assert Note.objects.filter(text=f"probe {n}").exists(), "the row of a finished job is not there"
        stuck = time.monotonic() - begun > 240 + INTERRUPTS * 0.4
        assert not stuck, (Counter(kind for _, kind in jobs.values()), len(probes), worker.output[-5_000:])
        time.sleep(0.05)

    with capsys.disabled():
        print(f"\n{number} interrupts in {time.monotonic() - begun:.0f} s: {dict(ended)}, seed={seed}")
    assert get_connection("default").smembers("rq:workers") == names, "a process was replaced"
    assert "did not come back" not in worker.output
