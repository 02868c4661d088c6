"""The outbox: durable jobs that Redis does not have yet, and why."""

from collections.abc import Iterator
from typing import Any

from jobs import conf
from jobs.broker import keys
from jobs.broker.connections import servers
from jobs.broker.times import MINUTE, as_text
from jobs.dashboard.format import span as spelt
from jobs.doctor.finding import Finding, Severity, first_of, manage, some
from jobs.errors import PayloadError
from jobs.inspection import unsent, workers
from jobs.outbox import rows
from jobs.record import packed

LOOKED_AT = 2  # slices of the oldest unsent rows


def findings() -> Iterator[Finding]:
    """Report unsent jobs, rows that cannot be read, a relay that does not run, and jobs that were not durable."""
    backlog = unsent.backlog()
    if backlog is None:
        return
    if backlog.oldest > MINUTE:
        yield Finding(
            Severity.ERROR,
            f"{some(backlog.number, 'durable job is', 'durable jobs are')} not in Redis yet; the oldest was deferred "
            f"{spelt(backlog.oldest)} ago.",
            "They run when they have been sent. A worker sends them within three seconds.",
            f"Start a worker on their server, or: {manage('jobs', 'relay')}",
        )
        yield from _unreadable()
    yield from _relay()
    yield from _plain()


def _unreadable() -> Iterator[Finding]:
    known, after = list(conf.queues()), 0
    strange, unreadable = [], []
    for _ in range(LOOKED_AT):
        some_rows = rows.oldest(after)
        for row in some_rows:
            try:
                packed.unpack(row.job_id, row.queue, bytes(row.packed))
            except PayloadError:
                unreadable.append(row.job_id)
            else:
                if row.queue not in known:
                    strange.append(row.queue)
        if not some_rows:
            break
        after = some_rows[-1].id
    if unreadable:
        yield Finding(
            Severity.ERROR,
            f"{some(len(unreadable), 'row', 'rows')} of the outbox cannot be read: {first_of(unreadable)}.",
            "This release sends the others, and keeps these.",
            "Start a worker of the release that wrote them; or delete them from the table jobs_unsent.",
        )
    if strange:
        yield Finding(
            Severity.ERROR,
            f"Jobs of the outbox are for queues that the project does not have: {first_of(sorted(set(strange)))}.",
            "Nothing sends them.",
            "Add the queues to JOBS['QUEUES'] and RQ_QUEUES, or update the column queue of the table jobs_unsent.",
        )


def _relay() -> Iterator[Finding]:
    if not workers.listed(jobs=0):
        return  # another finding
    for client in servers():
        if not client.exists(keys.lease("outbox")) and client.zcard(keys.ALIVE):
            yield Finding(
                Severity.ERROR,
                "No worker runs the relay of the outbox.",
                "Durable jobs that Redis did not take at once stay in the database.",
                "Restart the workers with JOBS['OUTBOX'] set, and look for 'the outbox waits' in their logs.",
            )


def _plain() -> Iterator[Finding]:
    found: list[Any] = [name for client in servers() for name in client.zrange(keys.OUTBOX_PLAIN, 0, -1)]
    names = sorted(set(map(as_text, found)))
    if names:
        yield Finding(
            Severity.WARNING,
            f"Jobs of {first_of(names)} were deferred within a transaction of another database than the outbox's.",
            "They are not durable: the outbox follows its own database alone.",
            "Defer them after that transaction, or name its database in JOBS['OUTBOX'].",
        )
