"""The queues: whether workers take their jobs."""

import time
from collections.abc import Iterator
from typing import Any

from jobs import conf, queues
from jobs.broker import keys
from jobs.broker.connections import by_server, servers
from jobs.broker.times import as_text
from jobs.doctor.finding import Finding, Severity, manage, some
from jobs.inspection import attempt_counts, problems, samples, workers

OVERDUE = 30  # seconds after its due time by which a scheduled job must be in its queue


def findings() -> Iterator[Finding]:
    """Report queues that are halted, late or unknown, and scheduled jobs that do not enter their queue."""
    yield from _halted()
    yield from _late()
    yield from _unknown()
    yield from _overdue()


def _halted() -> Iterator[Finding]:
    for client, names in by_server(conf.queues()).items():
        if client.exists(keys.SUSPENDED):
            yield Finding(
                Severity.ERROR,
                f"The queues {', '.join(names)} are halted by `rq suspend`.",
                "Workers take nothing.",
                "rq resume --url <REDIS_URL>",
            )


def _late() -> Iterator[Finding]:
    paused, reasons = queues.paused(), _starved()
    for name, sample in samples.measure().items():
        target = conf.target(name)
        if name in paused and sample.length:
            yield Finding(
                Severity.WARNING,
                f"The queue {name} is paused, and {some(sample.length, 'job waits', 'jobs wait')} in it.",
                "They wait until somebody resumes it.",
                manage("jobs", "resume", name),
            )
        elif sample.latency > target:
            yield Finding(
                Severity.WARNING,
                f"The first job of the queue {name} has waited {sample.latency:.0f} s; {target:g} are the target.",
                reasons.get(name, "There is more to do than the workers do."),
                f"Start more workers: {manage('rqworker', name, '--processes', '2')}, or more --concurrency for jobs "
                "that wait.",
            )


def _starved() -> dict[str, str]:
    """Return the reason of each queue whose threads are busy with queues above it."""
    alive, measured = workers.listed(jobs=0), samples.measure()
    figures = [
        problems.QueueFigures(
            name=name,
            length=sample.length,
            wait=sample.latency,
            target=conf.target(name),
            threads=sum(worker.threads for worker in alive if name in worker.queues),
        )
        for name, sample in measured.items()
    ]
    _by_queue, minutes = attempt_counts.last_hour()
    text = "It is starved: {threads}, {part:.0%} of the last {span} min on queues above."
    return {
        each.queue: text.format(
            threads=some(each.threads, "thread", "threads"), part=each.part_above, span=problems.SHARED
        )
        for each in problems.of_queues(figures, {}, minutes)
        if each.kind == "starved"
    }


def _unknown() -> Iterator[Finding]:
    for client in servers():
        listed: Any = client.smembers(keys.QUEUES)
        names = {keys.name_of(as_text(key)) for key in listed}
        for name in sorted(names - set(conf.queues())):
            length = client.llen(keys.queue(name))
            if length:
                yield Finding(
                    Severity.WARNING,
                    f"{some(length, 'job is', 'jobs are')} in the queue {name!r}, which this project does not have.",
                    "No worker of ours serves it. Its name may be misspelt.",
                    f"The queues are: {', '.join(conf.queues())}. Enqueue those jobs to one of them, or add the queue.",
                )


def _overdue() -> Iterator[Finding]:
    for client, names in by_server(conf.queues()).items():
        for name in names:
            late = client.zcount(keys.registry("scheduled", name), "-inf", time.time() - OVERDUE)
            if late:
                yield Finding(
                    Severity.ERROR,
                    f"{some(late, 'scheduled job', 'scheduled jobs')} of the queue {name} should have started "
                    f"{OVERDUE} s ago or earlier.",
                    "No worker promotes what is due: delayed jobs and retries do not start.",
                    "Start a worker; look for errors in the logs of those that run.",
                )
