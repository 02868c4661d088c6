"""
Random lives of batches on a real server: members that finish, die, are dropped, add others, open children or are
unique; people who cancel, delete and retry; workers killed before and after a step; scripts sent twice; RQ's tools.

After each event every member is in one state; at rest each batch is complete, and each callback was enqueued once or,
where its event did not come, never. `LIVES=1000` in the environment runs longer.
"""

import os
import random
from collections import Counter
from contextlib import suppress

import pytest

from jobs import Batch, Workflow, control, execution
from jobs.attempts.interrupt import Interruptible
from jobs.batches import record
from jobs.broker import keys
from jobs.broker.times import as_text
from jobs.errors import BatchEndedError, ChangeRefusedError
from jobs.job import MandateJob
from jobs.worker.connection import Wire
from jobs.worker.promotion import Promotion
from jobs.worker.recovery import recover
from jobs.worker.release import release
from jobs.worker.surroundings import new_context
from tests.jobs.conftest import QUEUES, InlineWorker
from tests.sample.commands.batches import Live, LiveOnce, Refused, Say
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True)

EVENTS = 60
SEEDS = [
    *range(15),
    *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(15, int(os.environ.get("LIVES", 60)))),
]


def fail(member):
    raise ValueError("as planned")


def refuse(member):
    raise Refused


class World:
    def __init__(self, seed, client):
        self.random, self.client, self.wire = random.Random(seed), client, Wire("default")
        self.batches, self.jobs, self.workers, self.number, self.is_calm = [], [], 0, 0, False
        self.log = []
        Live.acts.clear()
        self.promotion = Promotion(self.wire)  # one for all: the lease of a dead worker would have to expire
        self.worker = self.new_worker()

    # --- what members do -------------------------------------------------------------------------

    def act(self, member):
        choice = self.random.choice([fail, refuse, self.add, self.child, self.requeue, None, None, None, None])
        if self.is_calm and choice in (self.add, self.child, self.requeue):
            choice = None
        if choice:
            choice(member)

    def add(self, member):
        with suppress(BatchEndedError), member.batch.add():  # it may have been cancelled
            self.defer(self.random.randint(0, 2))

    def child(self, member):
        with suppress(BatchEndedError):
            self.open(self.random.randint(0, 2))

    def requeue(self, member):
        member.requeue_job(self.random.choice([0, 60]))

    # --- events ----------------------------------------------------------------------------------

    def defer(self, number):
        for _ in range(number):
            self.number += 1
            command = LiveOnce if self.random.random() < 0.3 else Live
            name = self.random.randint(-3, -1) if command is LiveOnce else self.number
            Live.acts[name] = self.act
            self.jobs.append(command.defer(name))

    def open(self, number, depth=1):
        options = {f"on_{event}": Say.prepare(event) for event in record.EVENTS if self.random.random() < 0.7}
        self.number += 1
        batch = Batch(f"b{self.number}", flush=self.random.choice([0, 0, 1]), **options)
        with batch:
            self.defer(number)
            if depth < 4 and self.random.random() < 0.3:
                self.open(self.random.randint(0, 2), depth + 1)
        self.batches.append((batch, options))

    def flow(self):
        """A flow of random edges, some of whose steps take results, run in spite of bad ends, or open batches."""
        self.number += 1
        with Workflow(f"b{self.number}", on_complete=Say.prepare("complete")) as flow:
            steps = []
            for _ in range(self.random.randint(1, 5)):
                self.number += 1
                Live.acts[self.number] = self.act
                before = self.random.sample(steps, min(len(steps), self.random.randint(0, 2)))
                how = self.random.choice(["block", "run", "run", "cancel"])
                steps.append(flow.add(Live, self.number, after=before, on_failure=how))
        self.jobs += [step.job for step in steps]
        self.batches.append((flow, {"on_complete": None}))

    def opened(self):
        self.open(self.random.randint(0, 4))

    def step(self):
        self.worker.step()

    def hurry(self):
        self.worker.hurry().promotion.run(QUEUES)

    def killed(self):
        """A worker dies with a claim, which others take over; sometimes after its command has run."""
        claim = self.worker.claim()
        if claim is not None and self.random.random() < 0.5:
            new_context().run(execution.attempt, claim, Interruptible())
        self.die()

    def die(self):
        name = self.worker.name
        self.client.zrem(keys.ALIVE, name)
        self.worker.fetch._wire.close()
        self.worker.fetch._doorbell.close()
        for queue in QUEUES:
            recover(self.wire, queue, only=name)
        self.worker = self.new_worker()

    def killed_after_commit(self):
        """The outcome is written, and the worker dies before it releases what waited."""
        self.worker._look = lambda *, claims=True: self.worker.fetch._step(claims=claims)
        self.worker.step()
        self.die()

    def person(self):
        if not self.jobs:
            return
        job, change = self.random.choice(self.jobs), self.random.choice([control.cancel, control.delete, control.retry])
        with suppress(ChangeRefusedError):
            change(MandateJob.handle(job.id, job.origin, b"", self.client))

    def person_of_batch(self):
        if self.batches:
            batch, _ = self.random.choice(self.batches)
            if batch._block.client is not None and record.read(self.client, batch.id):
                self.random.choice([batch.retry_dead, batch.retry_dead, batch.cancel])()

    def rq_tool(self):
        if self.jobs:
            job = self.random.choice(self.jobs)
            if job.state in ("queued", "dead", "scheduled"):
                self.client.delete(keys.job(job.id))

    def sent_twice(self):
        if self.batches:
            batch, _ = self.random.choice(self.batches)
            if record.read(self.client, batch.id):
                record.seal(self.client, batch.id)

    def new_worker(self):
        self.workers += 1
        worker = InlineWorker(f"w{self.workers}")
        worker.promotion = self.promotion
        return worker

    # --- what must be true -----------------------------------------------------------------------

    def check(self):
        for batch, _ in self.batches:
            members = Counter()
            for state in record.MemberState:
                members.update(self.client.smembers(keys.batch_members(state, batch.id)))
            assert not [member for member, number in members.items() if number > 1]

    def rest(self):
        """Run until nothing is left to do, as workers and parents do."""
        self.is_calm = True
        for _ in range(200):
            self.hurry()
            done = self.worker.run()
            for member in self.client.smembers(keys.RELEASING):
                release(self.client, member)
                done += 1
            for batch, _ in self.batches:
                record.sweep(self.client, batch.id, 100)
                if not done:  # a person decides about steps that are blocked
                    done += sum(self.unblock(job) for job in batch.jobs("pending"))
            done += self.client.scard(keys.RELEASING)
            if not done and not any(self.client.llen(keys.queue(queue)) for queue in QUEUES):
                return
        raise AssertionError("it does not come to rest")

    def unblock(self, job):
        if job.state not in ("blocked", "waiting") or record.is_callback(job.id):
            return 0
        control.run_now(job)
        return 1


@pytest.mark.parametrize("seed", SEEDS)
def test_each_batch_ends_and_each_callback_is_enqueued_once(seed, valkey):
    world = World(seed, valkey.client())
    events = [world.opened, *[world.step] * 4, world.hurry, world.killed, world.killed_after_commit, world.person]
    events += [world.flow, world.person_of_batch, world.rq_tool, world.sent_twice]
    for _ in range(EVENTS):
        world.random.choice(events)()
        world.check()
    world.rest()
    world.check()

    said = Counter(Note.objects.values_list("text", flat=True))
    for batch, options in world.batches:
        header = record.read(world.client, batch.id)
        counts = batch.counts
        held = world.client.smembers(keys.batch_holds(batch.id))
        pending = world.client.smembers(keys.batch_members("pending", batch.id))
        records = [world.client.hgetall(keys.job(as_text(each))) for each in pending]
        assert header is not None and header.complete and not pending, (header, held, pending, records)
        is_good = sum(counts.values()) == counts["finished"]
        assert bool(header.success) == is_good
        for event in record.EVENTS:
            number, is_fired = said[f"{event} {header.name}"], bool(getattr(header, event))
            if f"on_{event}" in options:
                assert number >= 1 if is_fired else number == 0, (event, header)
        left = [key for key in record.keys_of(batch.id) if world.client.ttl(key) == -1]
        assert left == [], left
    for key in world.client.keys("jobs:dependents:batch:*"):
        batch_id, event = as_text(key).split(":")[3:5]
        assert not getattr(record.read(world.client, batch_id), event)
    world.worker.close()
