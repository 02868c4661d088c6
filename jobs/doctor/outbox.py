"""The outbox: durable jobs that Redis does not have yet, and why."""

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from django.db import DatabaseError, connections

from jobs import conf, runtime
from jobs.broker import keys
from jobs.broker.connections import servers
from jobs.broker.times import MINUTE, as_text
from jobs.dashboard.format import span as spelt
from jobs.doctor.finding import Finding, Severity, first_of, manage, some
from jobs.errors import PayloadError
from jobs.inspection import workers
from jobs.inspection.single_flight import NoAnswerError, SingleFlight
from jobs.models import Unsent
from jobs.outbox import rows
from jobs.record import packed

PATIENCE = 3.0  # seconds within which the database must answer
LOOKED_AT = 2  # slices of the oldest unsent rows


_flight: SingleFlight[list[Finding]] = SingleFlight("outbox", lambda: [*_unsent()])


def findings() -> Iterator[Finding]:
    """
    Report a database without the table, unsent jobs, rows that cannot be read, a relay that does not run, and jobs that
    were not durable.
    """
    if not rows.is_on():
        return
    _flight.start()
    with suppress(NoAnswerError, DatabaseError):  # a database that does not answer is another finding
        yield from _flight.answer(time.monotonic() + PATIENCE)
    yield from _relay()
    yield from _plain()


def _unsent() -> Iterator[Finding]:
    using, table = rows.alias(), Unsent._meta.db_table
    if table not in connections[using].introspection.table_names():
        yield Finding(
            Severity.ERROR,
            f"The outbox's database {using!r} has no table {table}.",
            "No durable job can be deferred.",
            manage("migrate", "jobs", "--database", using),
        )
        return
    backlog = rows.backlog()
    if backlog.oldest > MINUTE:
        yield Finding(
            Severity.ERROR,
            f"{some(backlog.number, 'durable job is', 'durable jobs are')} not in Redis yet; the oldest was deferred "
            f"{spelt(backlog.oldest)} ago.",
            "They run when they have been sent. A worker sends them within three seconds.",
            f"Start a worker on their server, or: {manage('jobs', 'relay')}",
        )
        yield from _unreadable()


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
    now = runtime.now()
    if not any(
        worker.is_ours and worker.born and now - worker.born.timestamp() > MINUTE for worker in workers.listed(jobs=0)
    ):
        return  # no worker is another finding, and one that has just started relays in a second
    if not any(client.exists(keys.lease("outbox")) for client in servers()):
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
