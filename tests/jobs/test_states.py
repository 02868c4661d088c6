"""
Random lives of jobs on a real server: after every event the server must match the model in `job_model.py`.

`STATES=1000` in the environment runs longer.
"""

import itertools
import os
import select
import time
from collections import Counter
from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from jobs import control, execution, queues, retries
from jobs.attempts import failures
from jobs.attempts.interrupt import Interruptible, Stopped, TimedOut
from jobs.attempts.outcomes import GivenBack
from jobs.batches import record
from jobs.batches.record import MemberState
from jobs.broker import keys
from jobs.broker.times import as_text
from jobs.errors import ChangeRefusedError, PrerequisiteError
from jobs.worker.commit import DEAD_TTL
from jobs.worker.connection import Wire
from jobs.worker.recovery import ALL, NONE, recover
from jobs.worker.release import release
from tests.jobs.conftest import InlineWorker
from tests.jobs.job_model import AHEAD, BADLY_ENDED, GONE, UNFINISHED, Life
from tests.jobs.stored_jobs import Books
from tests.sample.commands.acts import Act, ActForgotten, ActOnce, ActOnNote, ActOnNoteUnguarded, ActSoon
from tests.sample.commands.trouble import FlakyError, HopelessError
from tests.sample.models import Note

QUEUES = ("critical", "default")
KEPT_DEAD = 1  # in each queue

COMMANDS = [Act, Act, ActForgotten, ActOnce, ActOnce, ActSoon, ActOnNote, ActOnNoteUnguarded]
BATCH = "lives"  # of which some are members
AT_ONCE = 5  # jobs at a time, so that much happens to each


def failing(error, *about):
    def act(command):
        raise error(*about)

    return act


ENDS = {
    "finish": lambda command: None,
    "fail": failing(RuntimeError, "as planned"),
    "time out": failing(TimedOut),
    "flake": failing(FlakyError, "as planned"),
    "discard": failing(HopelessError, "as planned"),
    "stop": failing(Stopped),
    "requeue": lambda command: command.requeue_job(3_000),
    "requeue at once": lambda command: command.requeue_job(0),
}


def some(*states):
    """Only if a job is in one of these states."""
    return precondition(lambda self: any(life.state in states for life in self.lives))


class Unread(NamedTuple):
    """A claim in an answer that its worker has not read."""

    execution: bytes


class Members:
    """Stands for the block of a batch that is never sealed: the members' ends alone move them."""

    def take(self, jobs):
        members = [job._replace(batch=BATCH) for job in jobs]
        return queues.push_with_handles(members, queues.handles_of(members))


class Lives(RuleBasedStateMachine):
    def __init__(self, valkey, monkeypatch):
        super().__init__()
        valkey.clean()
        self.client, self.wire = valkey.client(), Wire("default")
        record.create(self.client, BATCH, record.NewHeader("of the lives", (), 1, ""))
        self.lives: list[Life] = []
        self.counted: Counter[str] = Counter()
        self.locks: dict[type, Life] = {}  # who held a unique command's last
        self.workers: list[InlineWorker] = []
        self.idle = [self.new_worker(), self.new_worker()]
        self.promotion = self.idle[0].promotion
        self.dead: list[Life] = []  # the last one first
        self.late: list[tuple] = []  # worker and claim, of those that were taken for dead or did not hear
        self.writes: list = []  # what is to be written when a transaction commits
        monkeypatch.setattr(queues, "on_commit", lambda write, opened: self.writes.append(write))
        ids = itertools.count()
        monkeypatch.setattr(queues, "new_id", lambda: f"job-{next(ids)}")  # the same ones when an example is run again

    def new_worker(self):
        worker = InlineWorker(f"w{len(self.workers)}")
        worker.fetch._steps._dead_limit = KEPT_DEAD
        self.workers.append(worker)
        return worker

    def teardown(self):
        self.client.close()
        self.wire.close()
        for worker in self.workers:
            worker.close()

    def among(self, data, *states):
        return data.draw(st.sampled_from([life for life in self.lives if life.state in states]))

    # --- defer -----------------------------------------------------------------------------------

    @precondition(lambda self: sum(life.is_unfinished or life.state == "unwritten" for life in self.lives) < AT_ONCE)
    @rule(
        data=st.data(),
        command=st.sampled_from(COMMANDS),
        queue=st.sampled_from(QUEUES),
        wait=st.sampled_from([None, None, 60]),
        failure=st.sampled_from(["wait", "run"]),
        by_id=st.booleans(),
        habit=st.sampled_from(list(ENDS)),
        commits=st.booleans(),
        is_member=st.booleans(),
    )
    def defer(self, data, command, queue, wait, failure, by_id, habit, commits, is_member):
        """The checks of the arguments; then the write, unless a transaction is open."""
        known = [life for life in self.lives if life.is_unfinished or life.state == "unwritten"] + self.lives[-2:]
        first = data.draw(st.lists(st.sampled_from(known), max_size=2, unique=True)) if known else []
        refused = any((life.stands_for or life).state in {"cancelled", *GONE} for life in first)
        options = {"queue": queue, "wait": wait, "prereq_failure": failure}
        options["prereq_jobs"] = [life.job.id if by_id else life.job for life in first]
        is_member = is_member and command is not ActOnce
        token = record.opened.set(Members() if is_member else None)
        try:
            job = command.defer(**options, **({"note": nowhere()} if issubclass(command, ActOnNote) else {}))
        except PrerequisiteError:
            assert refused
            return
        finally:
            record.opened.reset(token)
        assert not refused
        if by_id:
            first = [life.stands_for or life for life in first]
        life = Life(job, command, queue, first, failure == "run", by_id, wait is not None, habit, self.writes.pop())
        life.is_member = is_member
        self.lives.append(life)
        if commits:
            self.commit(life)

    @some("unwritten")
    @rule(data=st.data())
    def commit_later(self, data):
        self.commit(self.among(data, "unwritten"))

    def commit(self, life):
        if not life.by_id:
            life.prerequisites = [each.stands_for or each for each in life.prerequisites]
        holder = self.locks.get(life.command)
        if holder is not None and holder.is_unfinished:
            life.state = "duplicate"
            if holder in life.prerequisites:
                with pytest.raises(PrerequisiteError):
                    life.write()
            else:
                life.write()
                assert (life.job.id, life.job.duplicate) == (holder.id, True)
                life.stands_for = holder
            return
        life.write()
        assert not life.job.duplicate
        if life.is_unique:
            self.locks[life.command] = life
        life.wait_or_start(life.prerequisites)

    # --- a worker --------------------------------------------------------------------------------

    def queued(self, paused=None):
        return [life for life in self.lives if life.state == "queued" and life.queue != paused]

    @precondition(lambda self: self.idle and self.queued())
    @rule(paused=st.sampled_from([None, *QUEUES]))
    def claim(self, paused):
        self.take(paused)

    def take(self, paused=None):
        worker, queued = self.idle[-1], self.queued(paused)
        if paused:
            queues.pause(paused)
        for at, queue in enumerate(worker.fetch._queues):  # as its parent tells it
            worker.fetch._board.pause(at, queue in queues.paused())
        claim = worker.claim()
        if paused:
            queues.resume(paused)
        if not queued:
            assert claim is None
            return None
        (life,) = [life for life in queued if life.id == claim.job_id]
        assert life.queue == min((each.queue for each in queued), key=QUEUES.index)
        life.state, life.held = "running", (self.idle.pop(), claim)
        return life

    @precondition(lambda self: self.idle and self.queued())
    @rule()
    def send(self):
        """A worker sends a step ahead: the server has done it, and the answer lies unread, whatever happens next."""
        worker, queued = self.idle.pop(), self.queued()
        self.client.zadd("jobs:workers", {worker.name: time.time()})
        worker.fetch._steps.send(QUEUES, worker.fetch._room)
        assert select.select([worker.fetch._wire], [], [], 60)[0]
        wip = [as_text(member) for queue in QUEUES for member in self.client.zrange(f"rq:wip:{queue}", 0, -1)]
        (member,) = [member for member in wip if f":{worker.name}." in member]
        (life,) = [life for life in queued if member.startswith(f"{life.id}:")]
        assert life.queue == min((each.queue for each in queued), key=QUEUES.index)
        life.state, life.held = "running", (worker, Unread(member.rpartition(":")[2].encode()))

    @precondition(lambda self: self.unread())
    @rule(data=st.data())
    def lose_answer(self, data):
        """The worker's next step gives back what it never heard of."""
        life = data.draw(st.sampled_from(self.unread()))
        worker, _ = life.held
        worker.fetch._steps.hang_up()
        worker.fetch._step(claims=False)
        assert worker.fetch.held == {}
        self.idle.append(worker)
        life.state = "queued"

    def unread(self):
        return [life for life in self.lives if life.state == "running" and isinstance(life.held[1], Unread)]

    def read(self, worker, claim):
        """The claim of a worker; it reads the answer first, if that is still unread."""
        if isinstance(claim, Unread):
            worker.fetch._receive()
            claim = worker.fetch._ready.popleft()
        return worker, claim

    @some("running")
    @rule(data=st.data(), end=st.sampled_from([None, *ENDS]), dies_before_release=st.booleans())
    def finish(self, data, end, dies_before_release):
        """An attempt is made and its outcome committed."""
        self.run(self.among(data, "running"), end, dies_before_release)

    @precondition(lambda self: self.idle and self.queued())
    @rule(dies_before_release=st.booleans())
    def work(self, dies_before_release):
        """The usual case: nothing happens between the claim and the attempt."""
        self.run(self.take(), None, dies_before_release)

    @precondition(lambda self: self.idle and self.queued())
    @rule(times=st.integers(2, 6))
    def work_on(self, times):
        for _ in range(times):
            if self.queued():
                self.run(self.take(), None, False)

    def run(self, life, end, dies_before_release):
        worker, claim = self.read(*life.held)
        self.idle.append(worker)
        end = end or life.habit
        releasing, calls = self.attempt(worker, claim, end)
        counted, is_called = life.attempt(end)
        assert calls == ([life.id] if is_called else [])
        assert not is_called or life.may_start()
        if counted:
            self.counted[counted] += 1
        if life.state == "dead":
            self.bury(life)
            self.trim(life.queue)
        if not dies_before_release:
            self.release(releasing)

    @precondition(lambda self: self.late)
    @rule(data=st.data(), end=st.sampled_from(list(ENDS)))
    def finish_late(self, data, end):
        late = data.draw(st.sampled_from(self.late))
        self.late.remove(late)
        releasing, _ = self.attempt(*self.read(*late), end)
        assert releasing == []

    def attempt(self, worker, claim, end):
        calls = []

        def act(command):
            calls.append(command.job.id)
            return ENDS[end](command)

        Act.play = staticmethod(act)
        claim.started = time.monotonic()
        outcome, name = execution.attempt(claim, Interruptible())
        worker.fetch.commits.add(claim, outcome, name, 0.001)
        return worker.fetch._step(claims=False), calls

    @some("running")
    @rule(data=st.data())
    def give_back(self, data):
        life = self.among(data, "running")
        worker, claim = self.read(*life.held)
        worker.fetch.commits.add(claim, GivenBack(), "", 0.0)
        worker.fetch._step(claims=False)
        self.idle.append(worker)
        life.state = "queued"

    @some("running")
    @rule(data=st.data(), begun=st.booleans(), suspect=st.booleans(), is_late=st.booleans(), by_any=st.booleans())
    def die(self, data, begun, suspect, is_late, by_any):
        """A worker dies, is stopped, or is taken for dead; its parent or another gives back its jobs."""
        life = self.among(data, "running")
        worker, claim = life.held
        begun = begun and not isinstance(claim, Unread)
        self.idle.append(self.new_worker())
        if is_late:
            self.late.append((worker, claim))
        if by_any:
            self.client.zadd("jobs:workers", {worker.name: 1})
        for queue in QUEUES:
            if by_any:
                recover(self.wire, queue)
            else:
                suspects = [claim.execution.decode()] if suspect else []
                recover(self.wire, queue, only=worker.name, begun=ALL if begun else NONE, suspects=suspects)
        if begun or by_any:
            life.interrupt(suspect=suspect or by_any)
        else:
            life.state = "queued"
        if life.state == "dead":  # as poison; the next commit of a dead one trims
            self.bury(life)

    @precondition(lambda self: self.client.exists("jobs:releasing"))
    @rule()
    def drain(self):
        """A parent finishes the releases of a worker that died."""
        self.release(member.decode() for member in self.client.smembers("jobs:releasing"))
        assert not self.client.exists("jobs:releasing")
        assert not any(life.is_done_for(other) for other in self.lives for life in other.lacks)

    def release(self, members):
        for member in members:
            release(self.client, member)
            _, kind, job_id = as_text(member).split(":")
            (ended,) = [life for life in self.lives if life.id == job_id]
            for life in self.lives:
                if life.any_end == (kind == "followers"):
                    life.release(ended)

    def bury(self, life):
        """Jobs die a second apart, so that their order by age is certain."""
        self.dead = [life, *(each for each in self.dead if each is not life)]
        for seconds, each in enumerate(self.dead, start=1_000):
            self.client.zadd(f"rq:failed:{each.queue}", {each.id: time.time() + DEAD_TTL - seconds}, xx=True)

    def trim(self, queue):
        for life in [each for each in self.dead if each.queue == queue and each.state == "dead"][KEPT_DEAD:]:
            life.state = "trimmed"
            assert self.client.get(f"jobs:gone:{life.id}") == b"trimmed"

    # --- time ------------------------------------------------------------------------------------

    @some("scheduled", "retrying")
    @rule(data=st.data())
    def become_due(self, data):
        life = self.among(data, "scheduled", "retrying")
        self.client.zadd(f"rq:scheduled:{life.queue}", {life.id: 1})
        if life.looks:  # and five seconds have passed since
            self.client.hset(life.job.key, "progress", replace(life.job.progress, since={"records": 1.0}).dump())
            life.looks = 2
        self.promotion.run(QUEUES)
        life.state = "queued"

    @precondition(lambda self: self.expiring)
    @rule(data=st.data())
    def expire(self, data):
        life = data.draw(st.sampled_from(self.expiring))
        self.client.hset(life.job.key, "expires_at", "1")
        life.is_expired = True

    @property
    def expiring(self):
        return [life for life in self.lives if life.may_expire and life.state in AHEAD and not life.is_expired]

    @some("finished")
    @rule(data=st.data())
    def forget(self, data):
        life = self.among(data, "finished")
        self.client.delete(life.job.key, f"rq:results:{life.id}")
        self.client.zrem(f"rq:finished:{life.queue}", life.id)
        life.state = "forgotten"

    # --- a person --------------------------------------------------------------------------------

    @precondition(lambda self: any(life.state != "duplicate" for life in self.lives))
    @rule(data=st.data())
    def meddle(self, data):
        """A person, or another tool, does something to a job, if its state allows it."""
        life = data.draw(st.sampled_from([life for life in self.lives if life.state != "duplicate"][-AT_ONCE:]))
        what = data.draw(
            st.sampled_from([self.retry, self.retry_by_rq, self.run_now, self.cancel, self.delete, self.push])
        )
        what(life)

    @some(*BADLY_ENDED)
    @rule(data=st.data(), retry=st.sampled_from(["retry", "retry_by_rq"]))
    def repair(self, data, retry):
        getattr(self, retry)(self.among(data, *BADLY_ENDED))

    def retry(self, life):
        holder = self.locks.get(life.command, life)
        if life.state in BADLY_ENDED and holder is not life and holder.is_unfinished:
            with pytest.raises(ChangeRefusedError, match=holder.id):
                control.retry(life.job)
        elif self.change(control.retry, life, BADLY_ENDED | {"scheduled", "retrying"}):
            life.revive()
            if life.is_unique:
                self.locks[life.command] = life

    def retry_by_rq(self, life):
        if life.state == "dead" and not life.is_unique:  # it knows nothing of locks
            queues.get_queue(life.queue).failed_job_registry.requeue(life.id)
            # It leaves the 180 days on it, which the next attempt will not mind.
            self.client.persist(life.job.key)
            self.client.persist(f"rq:results:{life.id}")
            life.was_retried_by_rq = True
            life.revive()

    def run_now(self, life):
        if self.change(control.run_now, life, {"scheduled", "retrying", "waiting"}):
            life.run_now()

    def cancel(self, life):
        if self.change(control.cancel, life, UNFINISHED):
            self.lose_claim(life)
            life.cancel()

    def delete(self, life):
        if self.change(control.delete, life, UNFINISHED | BADLY_ENDED | {"finished"}):
            self.lose_claim(life)
            life.delete()

    def change(self, what, life, possible):
        """Make the change. Returns whether it was made; otherwise it was refused."""
        if life.state in possible:
            what(life.job)
            return True
        with pytest.raises(ChangeRefusedError):
            what(life.job)
        return False

    def lose_claim(self, life):
        """A worker is notified late that its job was cancelled or deleted, and commits its result anyway."""
        if life.state == "running":
            self.late.append(life.held)
            self.idle.append(self.new_worker())

    def push(self, life):
        """A waiting job is pushed to its queue by hand, with RQ."""
        if life.state == "waiting":
            queue = queues.get_queue(life.queue)
            queue.deferred_job_registry.remove(life.id)
            queue._enqueue_job(type(life.job).fetch(life.id, connection=life.job.connection))
            life.state = "queued"

    # --- what must be so -------------------------------------------------------------------------

    @invariant()
    def everything_is_as_it_should_be(self):
        books = Books(self.client)
        books.check(self.lives, self.locks.values())
        assert books.counts() == self.counted
        members = {
            member.decode(): state.value
            for state in MemberState
            for member in self.client.smembers(keys.batch_members(state, BATCH))
        }
        written = {life.id: life for life in self.lives if life.is_member and life.state != "unwritten"}
        assert members.keys() == written.keys()
        assert [(life, members[life.id]) for life in written.values() if members[life.id] not in life.as_member()] == []


def nowhere():
    """Return a note that was deleted after the job was deferred."""
    note = Note(pk=1_000)
    note._state.adding = False
    return note


@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(900)
def test_random_lives(valkey, monkeypatch, caplog):
    caplog.set_level("CRITICAL", logger="jobs")  # thousands of lines, which would hide how it came to a failure
    monkeypatch.setattr(failures, "RECHECK_FOR", 1e6)
    # No wait ends by itself:
    monkeypatch.setattr(failures, "RECHECK_EVERY", 60.0)
    monkeypatch.setattr(retries, "default_delay", lambda failures, chance: 3_000.0)
    run_state_machine_as_test(
        lambda: Lives(valkey, monkeypatch),
        settings=settings(
            max_examples=int(os.environ.get("STATES", 80)),
            stateful_step_count=50,
            deadline=None,
            database=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
