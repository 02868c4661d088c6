"""Two releases, with different recurring entries and names, run side by side, through a rollout and back."""

import time
from collections import Counter

import pytest
from redis.exceptions import RedisError

from jobs import MandateJob, doctor, queues, scheduler
from jobs.broker.connections import get_connection
from jobs.broker.times import UNSEEN
from jobs.recurring import lists, writing
from jobs.scheduler import Entry, Scheduler
from tests.jobs.worker import eventually
from tests.sample import tasks
from tests.sample.commands.notes import WriteNote
from tests.sample.commands.rollout import Colour, Lend, Paint, PaintAtSecondTime, Sand
from tests.sample.models import Note, Tool

pytestmark = pytest.mark.django_db(transaction=True)


def entry(name, **options):
    return Entry(name, WriteNote, args=(name,), **{"every": 3_600, **options})


OLD = [entry("kept"), entry("changed", every=7_200), entry("removed")]
NEW = [entry("kept"), entry("changed", every=5_400), entry("added")]
NEWER = [entry("kept"), entry("newer")]


class Process:
    """The scheduling of a worker's process whose release has this list."""

    def __init__(self, listed, monkeypatch):
        self.scheduler, self.said = Scheduler(connection=get_connection("default")), []
        with monkeypatch.context() as patch:
            patch.setattr(lists, "listed", lambda: listed)
            self.beat()

    def beat(self):
        self.scheduler._list._next = 0.0
        self.said += self.scheduler.follow()

    def stop(self):
        self.scheduler.end()


@pytest.fixture
def start(valkey, monkeypatch):
    return lambda listed: Process(listed, monkeypatch)


def stored():
    return {each.name: each.entry.every for each in scheduler.entries()}


def of(listed):
    return {each.name: each.every for each in listed}


def die(process):
    """The process was killed UNSEEN seconds ago."""
    key = f"jobs:schedule:list:{process.scheduler._list._id}"
    get_connection("default").zadd(key, {process.scheduler._list._process: time.time() - UNSEEN - 1})


def test_the_newest_release_is_followed_through_a_rollout_and_back(start):
    old = start(OLD)
    assert stored() == of(OLD)
    scheduler.run_now("removed")
    scheduler.pause("removed")
    at = scheduler.get("kept").next_at

    new = start(NEW)
    assert stored() == of(NEW)
    scheduler.run_now("added")
    again = start(OLD)  # a worker of the old release crashed, or there are more of them now
    again.beat()
    old.beat()
    assert stored() == of(NEW)
    assert len(scheduler.get("added").runs()) == 1
    assert (len(again.said), len(old.said)) == (1, 1)  # each says it once
    assert again.said[0].startswith("The recurring entries follow the list of a newer release, unnamed:")

    new.stop()  # rolled back
    old.beat()
    again.beat()
    assert stored() == of(OLD)
    assert (scheduler.get("removed").paused, len(scheduler.get("removed").runs())) == (True, 1)

    new = start(NEW)  # and forth
    assert stored() == of(NEW)
    assert len(scheduler.get("added").runs()) == 1
    assert scheduler.get("kept").next_at == at
    assert new.said == []


def test_a_list_counts_until_the_last_of_its_processes_is_dead(start):
    old, new, other = start(OLD), start(NEW), start(NEW)
    die(new)
    old.beat()
    assert stored() == of(NEW)
    die(other)
    old.beat()
    assert stored() == of(OLD)


def test_of_three_releases_the_newest_that_runs_is_followed(start):
    old, new, newer = start(OLD), start(NEW), start(NEWER)
    for process in (old, new, newer):
        process.beat()
    assert stored() == of(NEWER)
    newer.stop()
    for process in (old, new):
        process.beat()
    assert stored() == of(NEW)


def test_after_a_silence_of_the_server_the_followed_list_counts_until_its_processes_beat_again(start):
    old, new = start(OLD), start(NEW)
    client = get_connection("default")
    client.delete(f"jobs:schedule:list:{new.scheduler._list._id}")
    client.zadd("jobs:workers", {"somebody": time.time()})
    client.set("jobs:heard", time.time() - 600)
    old.beat()
    assert stored() == of(NEW)


@pytest.mark.parametrize("step", ["write", "remove", "mark_written"])
def test_an_older_list_that_is_being_written_gives_way_at_each_step(step, start, monkeypatch):
    start(OLD).stop()
    start(NEW).stop()
    original = getattr(writing, step)

    def meanwhile(*args, **options):
        monkeypatch.setattr(writing, step, original)
        start(NEW)
        return original(*args, **options)

    monkeypatch.setattr(writing, step, meanwhile)
    start(OLD)
    assert stored() == of(NEW)
    assert get_connection("default").hget("jobs:schedule:list", "written") == b"1"


@pytest.mark.parametrize("step", ["write", "remove", "mark_written"])
def test_a_list_whose_writer_died_is_written_by_another_process(step, start, monkeypatch):
    newer, new = start(NEWER), start(NEW)
    peer = start(NEW)
    newer.stop()
    new.stop()
    peer.stop()
    newer.beat()
    assert stored() == of(NEWER)
    with monkeypatch.context() as patch, pytest.raises(RedisError):
        patch.setattr(writing, step, died)
        new.beat()
    newer.stop()
    peer.beat()
    assert stored() == of(NEW)


def died(*args, **options):
    raise RedisError


def test_entries_that_the_server_has_lost_are_written_again(start):
    new = start(NEW)
    get_connection("default").flushdb()
    new.beat()
    assert stored() == of(NEW)


def test_the_lists_that_are_remembered_are_bounded(start):
    first = start(OLD)
    for number in range(120):
        start([entry(f"e{number}")]).stop()
    remembered = [each.decode() for each in get_connection("default").zrange("jobs:schedule:lists", 0, -1)]
    assert len(remembered) == 101
    assert first.scheduler._list._id in remembered


LISTED = NEW


def test_the_doctor_compares_the_list_and_redis(start, settings):
    start(OLD)
    settings.JOBS = settings.JOBS | {"SCHEDULE": f"{__name__}.LISTED"}
    found = [each for each in doctor.examine() if "are not those" in each.what]
    assert [each.what for each in found] == [
        'The recurring entries in Redis are not those of JOBS["SCHEDULE"]. '
        "missing: 'added'; changed: 'changed'; unlisted: 'removed'."
    ]
    start(NEW)
    assert not [each for each in doctor.examine() if "are not those" in each.what]


@pytest.mark.processes
def test_a_worker_of_the_release_before_that_starts_again_changes_nothing(worker_process):
    def worker(entries):
        env = {"DJANGO_SETTINGS_MODULE": "tests.releases", "ENTRIES": entries}
        return worker_process("default", concurrency=1, env=env)

    worker("kept")
    eventually(lambda: set(stored()) == {"kept"})
    new = worker("kept added")
    eventually(lambda: set(stored()) == {"kept", "added"})
    again = worker("kept")
    eventually(lambda: "follow the list of a newer release" in again.output)
    assert set(stored()) == {"kept", "added"}
    new.stop()  # rolled back
    eventually(lambda: set(stored()) == {"kept"})


# --- jobs --------------------------------------------------------------------------------------


@pytest.fixture
def release(worker_process):
    """Start a worker of a release, with its own recurring entries."""

    def start(name):
        entries = "kept:3600 changed:7200 removed" if name == "old" else "kept:3600 changed:5400 added:3600:Sand"
        env = {"DJANGO_SETTINGS_MODULE": "tests.releases", "RELEASE": name, "ENTRIES": entries}
        worker = worker_process("default", concurrency=1, env=env)
        eventually(lambda: set(stored()) == {"kept", "changed", "removed" if name == "old" else "added"})
        return worker

    return start


def jobs_of_both(prefix):
    """Jobs that any release can run, and jobs that only the newer one can."""
    first = Paint.defer(f"{prefix} red")
    either = [
        first,
        PaintAtSecondTime.defer(f"{prefix} twice"),
        Paint.using(prereq_jobs=[first], prereq_failure="run").defer(f"{prefix} after"),
    ]
    member = Paint.defer(f"{prefix} member", Colour.BLUE)
    newer = [
        member,
        Paint.defer(f"{prefix} field", coats=2),
        Sand.defer(f"{prefix} command"),
        Lend.defer(Tool.objects.create(name=f"{prefix} model")),
        MandateJob.fetch(tasks.sweep.enqueue(f"{prefix} task").id, connection=get_connection("default")),
    ]
    either_later = Paint.using(prereq_jobs=[member]).defer(f"{prefix} after the member")
    return either, newer, either_later


def are(state, jobs):
    return all(job.state == state for job in jobs)


def become(state, jobs):
    """Let the time pass that retries wait, until the jobs are in that state. None of them is dead in between."""

    def looked():
        client = get_connection("default")
        for job_id in client.zrange("rq:scheduled:default", 0, -1):
            client.zadd("rq:scheduled:default", {job_id: 1}, xx=True)
        assert client.zcard("rq:failed:default") == 0
        time.sleep(0.1)
        return are(state, jobs)

    eventually(looked, timeout=60)


@pytest.mark.processes
def test_the_jobs_of_a_newer_release_wait_for_it_through_a_rollout_and_back(release):
    old = release("old")
    either, newer, dependent = jobs_of_both("first")
    become("finished", either)
    eventually(lambda: are("retrying", newer))
    assert dependent.state == "waiting"

    new = release("new")  # beside the old one
    become("finished", [*newer, dependent])
    both, more, last = jobs_of_both("second")
    scheduler.run_now("added")
    become("finished", [*both, *more, last])

    old.stop()
    scheduler.run_now("changed")
    new.stop()
    old = release("old")  # rolled back
    either, newer, dependent = jobs_of_both("third")
    become("finished", either)
    eventually(lambda: are("retrying", newer))

    old.stop()
    release("new")
    become("finished", [*newer, dependent])
    eventually(lambda: Note.objects.filter(text="changed").exists())

    what = ("red", "twice", "after", "member", "field", "command", "model", "task", "after the member")
    done = Counter(Note.objects.values_list("text", flat=True))
    assert done == Counter(
        [f"{time} {each}" for time in ("first", "second", "third") for each in what] + ["added", "changed"]
    )
    assert (len(scheduler.get("added").runs()), len(scheduler.get("changed").runs())) == (1, 1)
    assert [queues.lengths()["default"], get_connection("default").zcard("rq:failed:default")] == [0, 0]
