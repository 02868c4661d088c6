"""`make chaos`: a steady load, faults at random, and the books afterwards. Its seed is printed, SEED= repeats it."""

import json
import os
import random
import threading
import time
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from jobs import conf
from jobs.broker.connections import get_connection
from jobs.errors import RedisUnavailableError
from jobs.job import MandateJob
from jobs.queues import get_queue
from tests.chaos.batches import Batches, check_the_batches
from tests.chaos.conditions import remove_garbage
from tests.chaos.faults import LASTING, Faults
from tests.sample import functions
from tests.sample.commands.ledger import Record, RecordAsync, RecordLimited, Rude
from tests.sample.models import Note, Run

SECONDS = float(os.environ.get("CHAOS_SECONDS", "15"))
QUEUES = ("critical", "default", "low")
WORKERS, PROCESSES, THREADS, TASKS = 2, 2, 3, 20
NAMES = ("eu-1.a@b+c_" + "x" * 89, "eu-1")  # of workers: the longest that may be, and one that begins as the other does
SIZES = {13: 2_000_000, 3: 900_000}  # of results, some jobs each: over RESULT_LIMIT, and just under it
RUDE_EVERY = 400  # jobs for each one that does harm
# What that one does; the last two take half a minute.
RUDE = ("exit", "fork", "overrun", "wait", "sleep")[: 5 if SECONDS >= LASTING else 3]
KEPT = 24 * 3_600  # seconds that finished jobs stay: the books are read at the end

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True), pytest.mark.timeout(SECONDS * 3 + 240)]


class Load:
    """Defers jobs at a steady pace, and knows which were accepted. Where that raised, nobody can know."""

    def __init__(self, chance):
        self.accepted, self.unknown, self.rude, self.batches = {}, set(), {}, Batches()
        self._chance, self._ended = chance, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)  # a test that fails does not hold the process
        self._thread.start()

    def _run(self):
        number = 0
        while not self._ended.wait(0.01):
            if number // RUDE_EVERY >= len(self.rude):
                self._be_rude()
            rows = [self._row(number + n) for n in range(self._chance.choice([1, 1, 1, 5]))]
            number += len(rows)
            wait = self._chance.choice([None, None, None, self._chance.uniform(0, 3)])
            plain, queue = self._chance.random() < 0.1, self._chance.choice(QUEUES)
            try:
                if plain:
                    jobs = [
                        get_queue(queue).enqueue(
                            functions.record, **row, result_ttl=KEPT, job_id=long_id(row["number"])
                        )
                        for row in rows
                    ]
                elif self._chance.random() < 0.1:
                    jobs = [write_by_hand(queue, row) for row in rows]
                else:
                    command = self._chance.choice([Record, Record, RecordAsync, RecordLimited])
                    of_batch = self._chance.random() < 0.15
                    defer_many = (
                        partial(self.batches.defer, command, chance=self._chance) if of_batch else command.defer_many
                    )
                    jobs = defer_many(rows, queue=queue, wait=wait)
            except (RedisUnavailableError, RedisError):
                self.unknown.update(row["number"] for row in rows)
            else:
                self.accepted.update((row["number"], job) for row, job in zip(rows, jobs, strict=True))

    def _be_rude(self):
        number = len(self.rude)
        how = RUDE[number % len(RUDE)]
        try:
            self.rude[number] = (how, Rude.defer(number, how))
        except (RedisUnavailableError, RedisError):
            self.rude[number] = (how, None)

    def _row(self, number):
        seconds = self._chance.choice([0, 0, 0.005, 0.05, 0.1])
        return {"number": number, "seconds": seconds, "fails": number % 20 == 7, "size": size_of(number)}

    def end(self):
        self._ended.set()
        self._thread.join()


def test_nothing_is_lost_whatever_breaks(worker_process, valkey, places, tmp_path, capsys):
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
    chance = random.Random(seed)

    def start(env):
        number = len(list(tmp_path.glob("worker-*.log"))) % len(NAMES)
        options = {
            "name": NAMES[number],
            "async_concurrency": TASKS if number else 0,
        }  # every other one
        return worker_process(*QUEUES, processes=PROCESSES, concurrency=THREADS, env=env, **options)

    faults = Faults(chance, valkey, start, WORKERS, SECONDS)
    load = Load(random.Random(seed))
    struck = Counter()
    began, until = get_connection("default").time()[0], time.monotonic() + SECONDS
    while time.monotonic() < until:
        struck.update(faults.strike().split())
        time.sleep(chance.uniform(0, 1.5))
    load.end()
    faults.stop()

    client = get_connection("default")
    load.batches.seal()
    while True:
        for name in client.zrange("jobs:workers", 0, -1):
            client.zadd("jobs:workers", {name: 1})  # all have been stopped or killed: the thirty seconds pass
        assert worker_process(*QUEUES, burst=True, concurrency=12, async_concurrency=TASKS).wait(300) == 0
        left = [client.zcard(f"rq:scheduled:{queue}") + client.llen(f"rq:queue:{queue}") for queue in QUEUES]
        if not any(left) and not client.zcard("jobs:limited") and not client.scard("jobs:releasing"):
            break  # a job that became due as the last worker ended is in its queue now

    assert remove_garbage(client) == [], "no worker has taken these"
    refused = sum(log.read_text().count("refused late result") for log in tmp_path.glob("worker-*.log"))
    happened = f"{dict(struck)}, {refused} late results refused, {len(load.unknown)} jobs that nobody can know of"
    check_the_books(seed, happened, load, client, places(), capsys)
    check_the_times(began, load, client)


def check_the_books(seed, happened, load, client, found, capsys):
    """Every line is a promise; the last one printed sums them up."""
    runs = Counter(Run.objects.values_list("number", flat=True))
    states = {number: job.state for number, job in load.accepted.items()}
    interrupted = {n for n, job in load.accepted.items() if client.hexists(job.key, "interrupted_by")}
    lost = {
        n: last_seen(load.accepted[n], client, found) for n, state in states.items() if not runs[n] and state != "dead"
    }
    twice = {n for n in states if runs[n] > 1}
    counts = Counter(states.values())
    hashes = {key.decode().removeprefix("rq:job:") for key in client.scan_iter("rq:job:*")}
    rude = {n: (how, job.state, why(job)) for n, (how, job) in load.rude.items() if job is not None}
    line = (
        f"accepted={len(states)} finished={counts['finished']} dead={counts['dead']} interrupted={len(interrupted)} "
        f"run_twice={len(twice)} rude={len(rude)} batches={len(load.batches.known)} lost={len(lost)} seed={seed}"
    )
    with capsys.disabled():
        print(f"\n{happened}\n{line}")
    if "CHAOS_REPORT" in os.environ:
        Path(os.environ["CHAOS_REPORT"]).write_text(line)

    assert lost == {}
    given = {n: job.return_value() for n, job in load.accepted.items() if states[n] == "finished" and not is_plain(job)}
    assert {n: str(result)[:80] for n, result in given.items() if result not in expected_results(n)} == {}, (
        "other results"
    )
    ended = {"finished", "dead"}
    left = {
        n: (state, runs[n], last_seen(load.accepted[n], client, found))
        for n, state in states.items()
        if state not in ended
    }
    assert left == {}
    assert {job_id: where for job_id, where in found.items() if len(where) > 1} == {}, "in two places"
    assert hashes - found.keys() == set(), "records in no place"
    assert twice - interrupted == set(), "ran twice and was never interrupted"
    assert {n: states[n] for n in states if n % 20 == 7 and states[n] != "dead"} == {}, "failed, and is not dead"
    spared = {n: why(job) for n, job in load.accepted.items() if n % 20 != 7 and states[n] == "dead"}
    spared = {n: reason for n, reason in spared.items() if not is_refused(n, load.accepted[n], reason)}
    assert {reason for n, reason in spared.items() if n not in interrupted} == set(), "dead, and did not fail"
    assert client.zcard("rq:wip:default") == client.zcard("rq:wip:low") == client.zcard("rq:wip:critical") == 0
    expected = {"exit": {"finished"}, "fork": {"finished"}, "overrun": {"dead"}, "wait": {"dead"}, "sleep": {"dead"}}
    assert {n: seen for n, seen in rude.items() if seen[1] not in expected[seen[0]] and seen[2] != "poison"} == {}, (
        "rude jobs that ended otherwise"
    )
    assert not Note.objects.filter(text__startswith="overrun").exists(), "rows of a transaction that was interrupted"
    outcomes = Counter()
    for key in client.scan_iter("jobs:counts:*"):
        for label, count in client.hgetall(key).items():
            _, command, outcome, _ = label.decode().split("|")
            outcomes[command, outcome] += int(count)
    finished = sum(state == "finished" and not is_plain(load.accepted[n]) for n, state in states.items())
    counted = sum(outcomes[f"sample.{each.__name__}", "finished"] for each in (Record, RecordAsync, RecordLimited))
    assert finished <= counted <= finished + len(load.unknown)
    check_the_limits(load, client, interrupted | load.unknown)
    check_the_batches(load.batches, client, lambda job: client.hexists(job.key, "interrupted_by"))


def check_the_limits(load, client, spared):
    """
    By what the bodies wrote, never more than so many of a line were in at once. A body whose worker stood still or died
    wrote when nothing held its place any more: `spared`.
    """
    inside, most = defaultdict(set), Counter()
    for text in Note.objects.filter(text__startswith="limited").order_by("pk").values_list("text", flat=True):
        _, number, does = text.split()
        line = int(number) % RecordLimited.LINES
        if int(number) not in spared:
            (inside[line].add if does == "enters" else inside[line].discard)(number)
            most[line] = max(most[line], len(inside[line]))
    assert most and max(most.values()) <= RecordLimited.AT_ONCE, most
    names = ("jobs:lane:*", "jobs:lanes:*", "jobs:slots:*", "jobs:limited", "jobs:limits:due")
    assert [key for name in names for key in client.scan_iter(name)] == [], "kept for nobody"


def check_the_times(began, load, client):
    """Commands are kept from their end on by the server's clock, however wrong the clock of their worker was."""
    steps = {job.id for batch, jobs, _ in load.batches.known if batch._is_flow for job in jobs}  # are kept for longer
    ours = {job.id.encode() for job in load.accepted.values() if not is_plain(job) and job.id not in steps}
    now, far = client.time()[0], 60  # seconds; clocks are set by ten times as much
    ended = {
        job_id: at - KEPT
        for queue in QUEUES
        for job_id, at in client.zrange(f"rq:finished:{queue}", 0, -1, withscores=True)
        if job_id in ours
    }
    assert ended
    assert {job_id: at for job_id, at in ended.items() if not began - far < at < now + far} == {}, "by another clock"


def long_id(number):
    """As long as RQ allows an application to choose it: of any length. None: RQ's own."""
    return "x" * 250 + str(number) if number % 2 else None


def write_by_hand(queue, row):
    """
    A job whose id RQ's code would not accept, as another program may write it. That a command is async is not in its
    record.
    """
    name = "sample.RecordAsync" if row["number"] % 2 else "sample.Record"
    job_id = f"eu/1 %41 \u00fc\u2028\n{row['number']}"
    data = json.dumps(["jobs.execution.perform", None, [name, *row.values()], {}])
    client = get_connection(queue)
    with client.pipeline() as pipeline:
        record = {"status": "queued", "origin": queue, "data": data, "result_ttl": KEPT}
        pipeline.hset(f"rq:job:{job_id}", mapping=record | {"created_at": "2026-01-01T00:00:00.000000Z"})
        pipeline.rpush(f"rq:queue:{queue}", job_id)
        pipeline.execute()
    return MandateJob.handle(job_id, queue=queue, payload=data.encode(), connection=client)


def size_of(number):
    """Characters of a job's result or, where it fails, of its error's text."""
    if number % 200 == 7:
        return 2_000_000 if number % 2_000 == 7 else 50_000  # each is logged, twice
    return SIZES.get(number % 300, 0)


def expected_results(number):
    """What a finished command may have kept: a server that refuses a large result leaves its size."""
    size = size_of(number)
    if size > conf.result_limit():
        return {f"<str of {size + 2:,} bytes, over JOBS['RESULT_LIMIT']>"}
    return {"x" * size, f"<{4 * -(-(size + 2) // 3):,} bytes, which the server did not take>"} if size else {None}


def is_refused(number, job, reason):
    """Whether a plain job is dead because a server refused its large result for longer than it is tried."""
    return is_plain(job) and size_of(number) and reason.startswith("JobsError: The server does not take the outcome")


def is_plain(job):
    return job.func_name.endswith(".record")


def why(job):
    """Why it is dead, in a line."""
    if job.reason:
        return job.reason
    result = job.latest_result()
    return result.exc_string.splitlines()[-1] if result and result.exc_string else ""


def last_seen(job, client, found):
    """All that is known of a job which has not run: its state, its places, its record, and a trace if it is gone."""
    record = {name.decode(): value[:200] for name, value in client.hgetall(job.key).items()}
    return job.state, found.get(job.id), record, client.get(f"jobs:gone:{job.id}")
