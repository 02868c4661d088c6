"""
Random lives of jobs with limits on a real server. After each event: no more bodies than slots, each job in one place,
and where a limit has room, the first that waits in each queue has been woken. In the end nothing is left.

The bodies are those that the workers of this test hold: each is there from its claim until it returns or its process
dies.
"""

import random
import time

import pytest

from jobs import control
from jobs.attempts.outcomes import Discarded, Finished, GivenBack, Requeued, Retried
from jobs.broker import keys
from jobs.broker.connections import get_connection
from jobs.errors import ChangeRefusedError
from jobs.limits import control as limits
from jobs.retries import Progress
from jobs.worker import lanes
from jobs.worker.connection import Wire
from jobs.worker.promotion import Promotion
from jobs.worker.recovery import recover
from tests.sample.commands.limited import NeedsA, NeedsB, NeedsBoth, OneAtATime, OnePerShop, OneTurn, Turn, TwoAtOnce
from tests.sample.commands.notes import WriteNote

pytestmark = pytest.mark.django_db(transaction=True)  # a job without a record is looked for in the outbox

QUEUES = ("critical", "default", "low")
SLOTS = {
    "sample.OneAtATime:concurrency:=": 1,
    "sample.TwoAtOnce:concurrency:=": 2,
    'sample.OnePerShop:concurrency:shop="a"': 1,
    'sample.OnePerShop:concurrency:shop="b"': 1,
    "a:concurrency:=": 1,
    "b:concurrency:=": 1,
    "sample.OneTurn:concurrency:=": 1,
}
WAYS = [
    lambda queue: OneAtATime.defer(queue=queue),
    lambda queue: TwoAtOnce.defer(queue=queue),
    lambda queue: OnePerShop.defer("a", queue=queue),
    lambda queue: OnePerShop.defer("b", queue=queue),
    lambda queue: NeedsA.defer(queue=queue),
    lambda queue: NeedsB.defer(queue=queue),
    lambda queue: NeedsBoth.defer(queue=queue),
    lambda queue: WriteNote.defer("x", queue=queue),
    lambda queue: Turn.defer("a", queue=queue),
    lambda queue: Turn.defer("b", queue=queue),
    lambda queue: OneTurn.defer("a", queue=queue),
]
PAUSES = [
    ("sample.OneAtATime:concurrency:", None),
    ("a:concurrency:", None),
    ("sample.OnePerShop:concurrency:shop", None),
    ("sample.OnePerShop:concurrency:shop", "a"),
]
EVENTS = ("defer", "defer", "claim", "claim", "claim", "end", "end", "end", "back", "cancel", "delete", "move", "die",
          "fall silent", "recover", "sweep", "pause", "rq deletes", "run now",
          "pause a limit")  # fmt: skip


class Body:
    def __init__(self, claim, worker):
        self.claim, self.worker = claim, worker
        lines = [line.split("\t") for line in claim.more.limits.decode().split("\n")]
        self.places = [f"{words[1]}={words[2]}" for words in lines if words[0] == "c"]
        self.is_forced = False


class Life:
    def __init__(self, new_fetch, seed):
        self.dice, self.new_fetch = random.Random(seed), new_fetch
        self.client, self.wire = get_connection("default"), Wire("default")
        self.promotion = Promotion(self.wire)
        self.fetches, self.born = {}, 0
        for _ in range(3):
            self.give_birth()
        self.jobs, self.moved, self.bodies, self.paused = [], set(), [], set()
        self.paused_limits = set()
        self.started = []
        self.forced = set()
        self.log = []

    def give_birth(self):
        self.born += 1
        name = f"w{self.born}"
        self.fetches[name] = self.new_fetch(name, threads=2, queues=QUEUES)

    def live(self):
        event = self.dice.choice(EVENTS)
        self.log.append(event)
        getattr(self, event.replace(" ", "_"))()
        self.check()

    # --- events ----------------------------------------------------------------------------------

    def defer(self):
        for _ in range(self.dice.randint(1, 4)):
            self.jobs.append(self.dice.choice(WAYS)(self.dice.choice(QUEUES)))
            self.log.append(self.jobs[-1].id)

    def claim(self):
        self.step(self.dice.choice(list(self.fetches)))

    def step(self, name):
        fetch = self.fetches[name]
        for at, queue in enumerate(QUEUES):
            fetch._board.pause(at, queue in self.paused)
        self.client.zadd(keys.ALIVE, {name: time.time()})
        fetch._step(claims=True)
        for claim in fetch._ready:
            body = Body(claim, name)
            if claim.job_id in self.forced:
                body.is_forced = True
                self.forced.discard(claim.job_id)
            assert body.is_forced or not self.is_paused(*body.places), (claim.job_id, self.log)
            self.bodies.append(body)
            self.log.append(("claimed", claim.job_id, name))
            self.started.append((claim.job_id, claim.queue_name, tuple(self.bodies[-1].places)))
        fetch._ready.clear()

    def is_paused(self, *places):
        return any(
            place == f'{limit}="{value}"' if value else place.startswith(f"{limit}=")
            for limit, value in self.paused_limits
            for place in places
        )

    def leave(self, *outcomes):
        if self.bodies:
            body = self.bodies.pop(self.dice.randrange(len(self.bodies)))
            outcome = self.dice.choice(outcomes)
            self.log.append((outcome, body.claim.job_id, body.worker))
            fetch = self.fetches[body.worker]
            fetch.commits.add(body.claim, outcome, "sample.OneAtATime", 0.001)
            self.step(body.worker) if self.dice.random() < 0.5 else fetch._step(claims=False)

    def end(self):
        self.leave(
            Finished(None, 0), Finished(None, 500), Retried(0, "no", "", Progress(attempts=1)),
            Requeued(0, Progress(requeues=1)), Discarded("no"),
        )  # fmt: skip

    def back(self):
        self.leave(GivenBack())

    def chosen(self):
        return self.dice.choice(self.jobs) if self.jobs else None

    def cancel(self):
        self.change(control.cancel)

    def delete(self):
        self.change(control.delete)

    def move(self):
        queue = self.dice.choice(QUEUES)
        self.change(lambda job: control.move(job, queue))

    def run_now(self):
        def run(job):
            was_limited = job.state == "limited"
            control.run_now(job, force=True)
            if was_limited:
                self.forced.add(job.id)
            self.moved.add(job.id)

        self.change(run)

    def change(self, change):
        if job := self.chosen():
            try:
                change(job)
                self.moved.add(job.id)
                self.log.append(job.id)
            except ChangeRefusedError:
                pass

    def rq_deletes(self):
        job = self.chosen()
        if job and job.state in ("queued", "limited"):
            queue = self.client.hget(job.key, "origin").decode()
            self.client.lrem(keys.queue(queue), 0, job.id)
            self.client.zrem(keys.registry("deferred", queue), job.id)
            self.client.delete(job.key)
            self.log.append(job.id)
        self.sweep()

    def die(self):
        name = self.dice.choice(list(self.fetches))
        del self.fetches[name]
        self.bodies = [body for body in self.bodies if body.worker != name]
        for queue in QUEUES:
            recover(self.wire, queue, only=name, begun=self.dice.choice([-1, 2**53]))
        lanes.free(self.wire, name)
        self.client.zrem(keys.ALIVE, name)
        self.log.append(name)
        self.give_birth()

    def fall_silent(self):
        """Its process is dead, and its parent's with it."""
        name = self.dice.choice(list(self.fetches))
        del self.fetches[name]
        self.bodies = [body for body in self.bodies if body.worker != name]
        self.client.zadd(keys.ALIVE, {name: 1})
        self.log.append(name)
        self.give_birth()
        if self.dice.random() < 0.5:
            self.recover()
        self.sweep()

    def recover(self):
        for queue in QUEUES:
            recover(self.wire, queue)
        self.client.delete(keys.SILENCE)

    def sweep(self):
        self.promotion.run(QUEUES)

    def pause(self):
        queue = self.dice.choice(QUEUES)
        self.paused ^= {queue}

    def pause_a_limit(self):
        limit, value = self.dice.choice(PAUSES)
        self.paused_limits ^= {(limit, value)}
        change = limits.pause if (limit, value) in self.paused_limits else limits.resume
        change(limit, value=value)
        self.sweep()  # wakes whom a resume lets go on
        self.log.append((change.__name__, limit, value))

    # --- what holds after each -------------------------------------------------------------------

    def check(self):
        for place, n in SLOTS.items():
            bodies = [body for body in self.bodies if place in body.places]
            if not any(body.is_forced for body in bodies):
                assert len(bodies) <= n, (place, self.log)
            held = self.client.smembers(keys.slots(place))
            assert {b"%b:%b" % (body.claim.id, body.claim.execution) for body in bodies} == held, (place, self.log)
            for queue in QUEUES:
                waiting = self.live_in(place, queue)
                if waiting:
                    woken = self.client.hget(keys.lanes(place), queue)
                    assert woken is not None, (place, queue, self.log)
                    if len(held) < n and not self.is_paused(place):
                        assert woken in self.client.lrange(keys.queue(queue), 0, -1), (place, queue, woken, self.log)
        for tenant in ('"a"', '"b"'):  # whoever waits for a turn waits behind one of the same tenant
            place = f"share={tenant}"
            for queue in QUEUES:
                if self.client.exists(keys.lane(place, queue)) and self.live_in(place, queue):
                    ring = self.client.lrange(keys.queue(queue), 0, -1)
                    turns = [self.client.hget(keys.job(job_id.decode()), "turn") for job_id in ring]
                    assert turns.count(place.encode()) == 1, (place, queue, self.log)
        self.check_places()

    def live_in(self, place, queue):
        """The jobs that wait in a lane; ids of others are passed over."""
        wanted = [b"deferred", place.encode(), queue.encode()]
        listed = self.client.lrange(keys.lane(place, queue), 0, -1)
        return [
            each for each in listed if self.client.hmget(keys.job(each.decode()), "status", "lane", "origin") == wanted
        ]

    def check_places(self):
        in_lists = {queue: self.client.lrange(keys.queue(queue), 0, -1) for queue in QUEUES}
        waiting = {queue: self.client.zrange(keys.registry("deferred", queue), 0, -1) for queue in QUEUES}
        for job in self.jobs:
            status, queue = self.client.hmget(job.key, "status", "origin")
            member = job.id.encode()
            lists = [name for name in QUEUES for each in in_lists[name] if each == member]
            registries = [name for name in QUEUES if member in waiting[name]]
            assert lists == ([queue.decode()] if status == b"queued" else []), (job.id, status, lists, self.log)
            assert registries == ([queue.decode()] if status == b"deferred" else []), (job.id, status, self.log)

    def finish(self):
        self.paused = set()
        while self.paused_limits:
            limit, value = self.paused_limits.pop()
            limits.resume(limit, value=value)
        for _ in range(1_000):
            self.recover()
            self.sweep()
            while self.bodies:
                self.leave(Finished(None, 0))
            for name in list(self.fetches):
                self.step(name)
            if not self.bodies and not any(job.state in ("queued", "limited", "running") for job in self.jobs):
                break
        self.sweep()
        left = [
            key
            for key in self.client.scan_iter()
            if key.startswith((b"jobs:slots", b"jobs:hold", b"jobs:lane", b"jobs:limit")) and self.client.ttl(key) < 0
        ]
        assert left == [], (left, self.log)
        assert not [job for job in self.jobs if job.state in ("queued", "limited", "running", "waiting")]

    def check_order(self):
        number = {job.id: at for at, job in enumerate(self.jobs)}
        seen, last = set(), {}
        for job_id, queue, places in self.started:
            if job_id in seen or job_id in self.moved or not places:
                continue
            seen.add(job_id)
            assert last.get((places, queue), -1) < number[job_id], (places, queue, job_id, self.log)
            last[places, queue] = number[job_id]


def live(new_fetch, valkey, seed, events=60):
    valkey.clean()
    life = Life(new_fetch, seed)
    try:
        for _ in range(events):
            life.live()
        life.finish()
        life.check_order()
    finally:
        life.wire.close()


@pytest.mark.parametrize("seed", range(15))
def test_random_lives(seed, new_fetch, valkey):
    live(new_fetch, valkey, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(15, 315))
def test_many_random_lives(seed, new_fetch, valkey):
    live(new_fetch, valkey, seed, events=100)
