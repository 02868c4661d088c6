"""
Durable jobs in rounds: in each a process defers some in a transaction and is killed, stopped or left alone at one of
the steps, while the server is away, hangs, loses everything or goes back in time. Then the books must balance.

CHAOS_ROUNDS sets the number of rounds, SEED repeats them, CHAOS_STOP the seconds of a stop; DB= and PGOPTIONS choose
the database and its isolation level.
"""

import os
import random
import shutil
import signal
import time
import traceback
from collections import Counter

import pytest
from django.db import DatabaseError, connections, transaction
from redis.exceptions import RedisError

from jobs import queues
from jobs.models import Unsent
from jobs.outbox import hooks
from jobs.outbox import rows as outbox
from tests.processes import wait_until
from tests.sample.commands.durable import Enter
from tests.sample.models import Note, Run

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "24"))
STOP = float(os.environ.get("CHAOS_STOP", "4"))  # seconds: the relay sends the jobs meanwhile
PARALLEL = 6  # processes that are stopped at a time, at most
JOBS_OF_A_ROUND = 4

pytestmark = [
    pytest.mark.processes,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(ROUNDS * (STOP + 5) + 240),
]


class RollbackError(Exception):
    pass


def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def stop(*_):
    os.kill(os.getpid(), signal.SIGSTOP)


def at(step, what):
    """In this process, do it when it comes to that step."""
    if step == "before the push":
        send = hooks.send
        hooks.send = lambda *args: (what(), send(*args))
    elif step == "between the pushes":
        write = queues._write_slice
        calls = []

        def write_slice(client, pairs):
            if calls:
                what()
            calls.append(1)
            write(client, pairs)

        queues._write_slice = write_slice
    elif step == "before the delete":
        sent = outbox.sent
        outbox.sent = lambda ids: (what(), sent(ids))


STEPS = ("before the commit", "before the push", "between the pushes", "before the delete")


def defer_some(number, step, what, rolls_back):
    """A process's work: a note and some jobs in one transaction; the last waits for the first, in another queue."""
    if step is not None:
        at(step, what)
    try:
        with transaction.atomic():
            Note.objects.create(text=f"committed {number}")
            first = Enter.defer(number)
            Enter.defer_many([(number + 1,), (number + 2,)])
            Enter.defer(number + 3, queue="low", prereq_jobs=[first])
            if step == "before the commit":
                what()
            if rolls_back:
                raise RollbackError
    except RollbackError:
        pass
    except DatabaseError as error:  # SQLite is locked while another process stands still in a transaction
        print(f"round {number}: {error}")


def fork(*work):
    connections.close_all()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        defer_some(*work)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


class Server:
    """What happens to Redis in a round, and its end."""

    def __init__(self, valkey, chance, loses):
        self._valkey, self._chance = valkey, chance
        self._copy = valkey.directory.with_name("copy")
        self._back_at = None
        self.kinds = ["nothing", "nothing", "away", "hang"] + (["flush", "copy", "older file"] if loses else [])

    def begin(self, kind):
        self.mend()
        if kind == "away":
            self._valkey.kill()
            self._back_at = time.monotonic() + self._chance.uniform(0, 4)
        elif kind == "hang":
            with self._valkey.client() as client:
                client.client_pause(1_500)
        elif kind == "flush":
            with self._valkey.client() as client:
                client.flushall()
        elif kind == "copy" or (kind == "older file" and not self._copy.exists()):
            self._valkey.kill()
            shutil.rmtree(self._copy, ignore_errors=True)
            shutil.copytree(self._valkey.directory / "appendonlydir", self._copy)
            self._valkey.start()
        elif kind == "older file":
            self._valkey.kill()
            shutil.rmtree(self._valkey.directory / "appendonlydir")
            shutil.copytree(self._copy, self._valkey.directory / "appendonlydir")
            self._valkey.start()

    def mend(self):
        if self._back_at is not None:
            time.sleep(max(0.0, self._back_at - time.monotonic()))
            self._back_at = None
            self._valkey.start()


@pytest.mark.slow
@pytest.mark.parametrize("keep", [None, "ended"], ids=["sent", "ended"])
def test_every_committed_job_runs_and_none_that_was_rolled_back(keep, worker_process, valkey, settings, capsys):
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
    chance = random.Random(seed)
    settings.JOBS = settings.JOBS | {"OUTBOX_KEEP": keep}
    env = {"JOBS_OUTBOX_KEEP": keep or ""}
    server = Server(valkey, chance, loses=keep is not None)
    workers = [worker_process("default", "low", env=env, concurrency=4)]
    struck, stopped = Counter(), {}  # by pid: when it goes on
    for number in range(0, ROUNDS * JOBS_OF_A_ROUND, JOBS_OF_A_ROUND):
        kind, step = chance.choice(server.kinds), chance.choice([None, *STEPS, *STEPS])
        what = chance.choice([kill, kill, stop]) if step and len(stopped) < PARALLEL else kill
        rolls_back = chance.random() < 0.2
        struck.update([kind, f"{what.__name__} {step}" if step else "no fault"])
        server.begin(kind)
        pid = fork(number, step, what, rolls_back)
        _, status = os.waitpid(pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            stopped[pid] = time.monotonic() + STOP
        assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0
        if chance.random() < 0.1:
            struck["worker killed"] += 1
            workers[-1].kill()
            server.mend()
            workers.append(worker_process("default", "low", env=env, concurrency=4))
        let_go(stopped, time.monotonic())
    server.mend()
    while stopped:
        time.sleep(0.1)
        let_go(stopped, time.monotonic())

    def is_done():
        try:
            with valkey.client() as client:
                for name in client.zrange("jobs:workers", 0, -1):
                    if name.decode() not in workers[-1].names and not name.decode().startswith(
                        next(iter(workers[-1].names))[:8]
                    ):
                        client.zadd("jobs:workers", {name: 1})  # those that were killed: the thirty seconds pass
        except RedisError:
            return False
        connections.close_all()
        return expected() <= set(Run.objects.values_list("number", flat=True)) and not Unsent.objects.exists()

    try:
        wait_until(is_done, timeout=200 + ROUNDS)  # all rows may have to be sent again
    finally:
        committed, ran = expected(), Counter(Run.objects.values_list("number", flat=True))
        twice = sum(times > 1 for times in ran.values())
        line = (
            f"rounds={ROUNDS} committed={len(committed)} ran={len(ran)} lost={len(committed - ran.keys())} "
            f"never_committed={len(ran.keys() - committed)} run_twice={twice} unsent={Unsent.objects.count()} "
            f"seed={seed}"
        )
        with capsys.disabled():
            print(f"\n{dict(struck)}\n{line}")
    assert committed == set(ran)
    first_run = {number: pk for pk, number in Run.objects.order_by("-pk").values_list("pk", "number")}
    assert [n for n in committed if n % JOBS_OF_A_ROUND == 3 and first_run[n] < first_run[n - 3]] == [], "early"


def expected():
    numbers = [int(text.split()[1]) for text in Note.objects.values_list("text", flat=True)]
    return {number + n for number in numbers for n in range(JOBS_OF_A_ROUND)}


def let_go(stopped, now):
    for pid in [pid for pid, until in stopped.items() if until <= now]:
        os.kill(pid, signal.SIGCONT)
        os.waitpid(pid, 0)
        del stopped[pid]
