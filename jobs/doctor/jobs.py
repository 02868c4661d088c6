"""The jobs: those that need a decision, and those that will not end by themselves."""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from jobs import conf
from jobs.broker import keys
from jobs.broker.connections import servers
from jobs.broker.times import DAY, UNSEEN, as_text
from jobs.doctor.finding import Finding, Severity, first_of, manage, some
from jobs.inspection import JobQuery, job_steps, workers
from jobs.job import JobState
from jobs.record import prerequisites

LOOKED_AT = 1_000  # jobs examined in each state
MANY_DEAD = 100  # dead jobs from which the finding is a warning
NEARLY = 0.9  # of JOBS["DEAD_LIMIT"]
LONG = DAY  # seconds after which a running job is a finding
GONE = 2 * UNSEEN  # seconds without a heartbeat after which a worker's jobs should have been requeued
GRACE = 25  # seconds that running jobs have, when their worker is stopped
STUBBORN = 14  # attempts; on the default curve they take a day


def findings() -> Iterator[Finding]:
    """Report dead jobs by cause, blocked jobs, stuck jobs, and jobs retried again and again."""
    yield from _dead()
    yield from _blocked()
    yield from _running()
    yield from _slow_steps()
    yield from _retrying()


def _dead() -> Iterator[Finding]:
    dead = JobQuery(state=JobState.DEAD)
    total = dead.count()
    if total.value:
        errors = Counter(row.error or "no reason" for row in dead.all(LOOKED_AT))
        causes = ", ".join(f"{count:,} {error}" for error, count in errors.most_common(3))
        worst = errors.most_common(1)[0][0] if errors else "SomeError"
        yield Finding(
            Severity.WARNING if total.value >= MANY_DEAD else Severity.NOTE,
            f"Dead jobs: {total}; of the first {LOOKED_AT:,}: {causes}.",
            "They are kept for a person to decide.",
            f"{manage('jobs', 'list', '--state', 'dead', '--error', worst)}; "
            "then jobs retry or jobs delete with the same.",
        )
    limit = int(conf.get("DEAD_LIMIT"))
    for name in conf.queues():
        kept = JobQuery(state=JobState.DEAD, queue=name).count().value
        if kept >= NEARLY * limit:
            yield Finding(
                Severity.WARNING,
                f"The queue {name} keeps {kept:,} dead jobs; of more than {limit:,} the oldest go.",
                "What nobody has looked at yet is lost.",
                f"{manage('jobs', 'list', '--state', 'dead', '--queue', name)}; or raise JOBS['DEAD_LIMIT'].",
            )


def _blocked() -> Iterator[Finding]:
    query = JobQuery(state=JobState.BLOCKED)
    blocked = query.count()
    if blocked.value:
        first = next(query.all(LOOKED_AT), None)
        by = prerequisites.blocking(first.client, first.id) if first else []
        yield Finding(
            Severity.WARNING,
            f"Jobs blocked by prerequisites that ended badly: {blocked}{f', the first by job {by[0]}' if by else ''}.",
            "They wait until somebody retries the prerequisite, runs them anyway or cancels them.",
            f"{manage('jobs', 'retry', by[0] if by else 'PREREQUISITE')}; or jobs run-now --state blocked.",
        )


def _running() -> Iterator[Finding]:
    now = time.time()
    beating = {each.name for each in workers.listed(jobs=0) if each.seen and now - each.seen.timestamp() < GONE}
    for client in servers():
        names: Any = client.zrangebyscore(keys.ALIVE, now - GONE, "+inf")
        beating |= set(map(as_text, names))
    orphans = []
    for row in JobQuery(state=JobState.RUNNING).all(LOOKED_AT):
        age = now - row.started_at.timestamp() if row.started_at else 0.0
        if row.worker not in beating and age > GONE:
            orphans.append(row)
        elif age > LONG:
            yield Finding(
                Severity.WARNING,
                f"Job {row.id} ({row.description[:80]}) has been running since {row.started_at:%d %b %H:%M}.",
                "It holds a thread, and a deployment interrupts it.",
                f"{manage('jobs', 'cancel', row.id)}; split what it does.",
            )
    if orphans:
        yield Finding(
            Severity.ERROR,
            f"{some(len(orphans), 'job is', 'jobs are')} held by workers that are gone: "
            f"{first_of(sorted({row.worker for row in orphans}))}.",
            "Nobody runs them. A living worker gives such jobs back within seconds.",
            "Start a worker on that server; look for errors in the logs of those that run.",
        )


def _slow_steps() -> Iterator[Finding]:
    """Report commands whose steps run so long without a checkpoint that a worker cannot stop in time."""
    slow: dict[tuple[str, str], float] = {}
    for row in JobQuery(state=JobState.RUNNING).all(LOOKED_AT):
        text: Any = row.client.hget(keys.job(row.id), "steps")
        steps = job_steps.read(text or b"")
        if steps is None:
            continue
        found = {step.name: float(step.slow) for step in steps.rows if step.slow}
        if steps.rows and steps.rows[-1].ended is None:
            found.setdefault(steps.rows[-1].name, time.time() - steps.written_at.timestamp())
        for name, seconds in found.items():
            slow[row.command, name] = max(seconds, slow.get((row.command, name), 0.0))
    for (command, name), seconds in slow.items():
        if seconds > GRACE:
            yield Finding(
                Severity.WARNING,
                f"The step {name!r} of {command} runs {seconds:.0f} s without a checkpoint.",
                f"A worker that stops waits {GRACE} s, and then interrupts the job: that counts as an interruption, "
                "and what it did since its last checkpoint is done again.",
                "Make its chunk smaller, or let its function take `step` and call step.set(cursor) more often.",
            )


def _retrying() -> Iterator[Finding]:
    stubborn = [row for row in JobQuery(state=JobState.RETRYING).all(LOOKED_AT) if row.attempts >= STUBBORN]
    for command, count in Counter(row.command for row in stubborn).items():
        last = next(row for row in stubborn if row.command == command)
        yield Finding(
            Severity.WARNING,
            f"{some(count, 'job', 'jobs')} of {command} failed {STUBBORN} times or more, to be retried still "
            f"({last.error}).",
            "They will hardly do better, and keep workers busy until their retries are used up.",
            f"Mend the cause, and: {manage('jobs', 'retry', '--state', 'retrying', '--command', command)}; "
            "or jobs cancel.",
        )
