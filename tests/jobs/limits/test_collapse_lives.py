"""Random lives of jobs that collapse, on a real server, held against a model after each event; and real workers."""

import random
import threading
import time
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from django.db import connection, transaction

from jobs import MandateJob, control
from jobs.attempts.outcomes import Dead, Finished, GivenBack, Requeued, Retried
from jobs.broker.connections import get_connection
from jobs.retries import Progress
from jobs.worker.connection import Wire
from jobs.worker.recovery import recover
from tests.jobs.conftest import InlineWorker
from tests.processes import wait_until
from tests.sample.commands.collapsing import Save, SaveAtOnce, SaveSoon
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True)

COMMANDS = (Save, SaveAtOnce)
AHEAD = ("scheduled", "queued")
PROGRESS = Progress(attempts=1)


@dataclass(eq=False)
class Life:
    """One job: its key, the last text that it took, and whether it can take more."""

    job: MandateJob
    key: Any
    text: str
    state: str
    is_open: bool = True  # it has never begun, nor been taken out by a person


class Lives:
    """Does random things, and knows what should come of each."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.client, self.wire = get_connection("default"), Wire("default")
        self.workers = [InlineWorker("w0"), InlineWorker("w1")]
        self.lives: list[Life] = []
        self.named: dict[Any, Life] = {}  # by key: the job that was made last
        self.held: dict[InlineWorker, tuple[Any, Life]] = {}
        self.calls = 0

    def close(self):
        for worker in self.workers:
            worker.close()
        self.wire.close()

    def act(self):
        getattr(
            self, self.random.choice(["push", "push", "push", "pass_time", "claim", "claim", "end", "end", "person"])
        )()
        self.check()

    def push(self):
        number = self.random.choice([1, 1, 1, 3])
        commands = [self.random.choice(COMMANDS) for _ in range(number)]
        users, texts = [self.random.randrange(2) for _ in commands], []
        with transaction.atomic():
            handles = []
            for command, user in zip(commands, users, strict=True):
                self.calls += 1
                texts.append(str(self.calls))
                handles.append(command.defer(user, texts[-1]))
        for command, user, text, handle in zip(commands, users, texts, handles, strict=True):
            key = command, user
            life = self.named.get(key)
            if life is not None and life.is_open and life.state in AHEAD:
                assert (handle.id, handle.duplicate) == (life.job.id, True)
                life.text = text
            else:
                assert not handle.duplicate
                self.named[key] = Life(handle, key, text, "scheduled" if command is Save else "queued")
                self.lives.append(self.named[key])

    def pass_time(self):
        self.workers[0].hurry().promotion.run(("default",))
        for life in self.lives:
            if life.state in ("scheduled", "retrying"):
                life.state = "queued"

    def claim(self):
        for worker in self.workers:
            if worker not in self.held and (claim := worker.claim()):
                (life,) = [life for life in self.lives if life.job.id == claim.job_id]
                assert life.state == "queued"
                assert orjson.loads(claim.payload)[2][2] == life.text
                life.state = "running"
                self.held[worker] = claim, life
                return

    def end(self):
        if not self.held:
            return
        worker = self.random.choice(list(self.held))
        claim, life = self.held.pop(worker)
        outcome, state = self.random.choice(
            [
                (Finished(None, 500), "finished"),
                (Finished(None, 0), "forgotten"),
                (Retried(60, "why", "", PROGRESS), "retrying"),
                (Requeued(0, PROGRESS), "queued"),
                (Requeued(60, PROGRESS), "scheduled"),
                (Dead("why", ""), "dead"),
                (GivenBack(), "queued"),
                (None, "queued"),
            ]
        )
        life.is_open = life.is_open and isinstance(outcome, GivenBack)
        if outcome is None:
            recover(self.wire, "default", only=worker.name)
            worker.fetch._steps.held.clear()
            poisoned = life.job.state == "dead"
            state = "dead" if poisoned else state
        else:
            worker.fetch.commits.add(claim, outcome, "sample.Save", 0.0)
            worker.fetch.flush()
        life.state = state

    def person(self):
        ahead = [life for life in self.lives if life.state in (*AHEAD, "retrying")]
        ended = [life for life in self.lives if life.state in ("dead", "cancelled")]
        what = self.random.choice(["cancel", "delete", "run_now", "retry"])
        if what == "retry" and ended:
            life = self.random.choice(ended)
            control.retry(life.job)
            life.state, life.is_open = "queued", False
        elif what == "run_now" and (some := [life for life in ahead if life.state == "scheduled"]):
            life = self.random.choice(some)
            control.run_now(life.job)
            life.state = "queued"
        elif what == "cancel" and ahead:
            life = self.random.choice(ahead)
            control.cancel(life.job)
            life.state = "cancelled"
        elif what == "delete" and ahead:
            life = self.random.choice(ahead)
            control.delete(life.job)
            life.state = "forgotten"

    def check(self):
        """Each job has the text of the last call that it took, in the one place of its state."""
        queued = [member.decode() for member in self.client.lrange("rq:queue:default", 0, -1)]
        scheduled = {member.decode() for member in self.client.zrange("rq:scheduled:default", 0, -1)}
        assert sorted(queued) == sorted(life.job.id for life in self.lives if life.state == "queued")
        assert scheduled == {life.job.id for life in self.lives if life.state in ("scheduled", "retrying")}
        for life in self.lives:
            data = self.client.hget(life.job.key, "data")
            assert (data is None) == (life.state == "forgotten")
            assert data is None or orjson.loads(data)[2][2] == life.text
        for command in COMMANDS:
            for user in range(2):
                waiting = [
                    life for life in self.lives if life.key == (command, user) and life.is_open and life.state in AHEAD
                ]
                assert len(waiting) - sum(life is not self.named[life.key] for life in waiting) <= 1


@pytest.mark.parametrize("seed", range(8))
def test_random_lives_are_those_of_the_model(seed, valkey):
    lives = Lives(seed)
    try:
        for _ in range(120):
            lives.act()
    finally:
        lives.close()


@pytest.mark.slow
@pytest.mark.processes
def test_the_last_call_of_each_key_runs_whatever_dies(worker_process):
    """Threads call while two workers run the jobs, of which one is killed: no key keeps older arguments."""
    first, _ = worker_process("low", concurrency=3), worker_process("low", concurrency=3)
    last: dict[int, int] = {}

    def call(user):
        for number in range(1, 101):
            SaveSoon.defer(user, f"{user} {number}")
            last[user] = number
            time.sleep(0.005)  # so that jobs begin between calls
        connection.close()

    threads = [threading.Thread(target=call, args=(user,)) for user in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: Note.objects.count() > 2, timeout=30)
    first.kill()
    for thread in threads:
        thread.join(60)

    def has_run(user):
        return Note.objects.filter(text=f"{user} {last[user]}").exists()

    wait_until(lambda: all(map(has_run, last)), timeout=60)
    assert last == dict.fromkeys(range(4), 100)
    assert Note.objects.count() < 300  # of 400 calls
