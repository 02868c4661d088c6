"""Reads the members of a batch: their ids by state, their jobs and their errors."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from redis import Redis

from jobs import conf
from jobs.batches.record import CHILD, MemberState
from jobs.broker import keys
from jobs.broker.connections import reaching
from jobs.broker.times import as_text
from jobs.job import MandateJob
from jobs.record import payload

SLICE = 200  # members that a round trip reads, and a step changes
READ = 5_000  # ids of a queue's list that a round trip reads
MUCH_LONGER = 20  # times as many ids as are looked for: such a list is not read
SAMPLE = 1_000  # dead members whose errors are grouped


class ErrorCount(NamedTuple):
    """How many of a batch's dead members have died of one error."""

    reason: str  # of one of them
    number: int
    fingerprint: str


def scan(client: Redis, batch_id: str, state: str) -> Iterator[str]:
    """Yield the members in a state, each once, in no order: ids of jobs, and children as `batch:<id>`."""
    cursor, known = 0, set()
    while True:
        with reaching(client):
            answer: Any = client.sscan(keys.batch_members(state, batch_id), cursor, count=SLICE)
        cursor, members = answer
        for member in members:
            if member not in known:  # SSCAN may return one twice
                known.add(member)
                yield as_text(member)
        if not int(cursor):
            return


def job_ids(client: Redis, batch_id: str, state: str) -> Iterator[str]:
    """Yield the ids of the jobs in a state."""
    return (each for each in scan(client, batch_id, state) if not each.startswith(CHILD))


def slices(ids: Iterable[str]) -> Iterator[list[str]]:
    """Yield ids in lists of SLICE."""
    ids = iter(ids)
    while some := list(islice(ids, SLICE)):
        yield some


def as_they_stand(client: Redis, ids: Sequence[str]) -> list[str]:
    """
    Return these ids of jobs in the order in which they stand in the lists of the queues, then those that are not found
    there. So a change of many finds its jobs near each other; in any other order it searches a long list for each.
    """
    left = dict.fromkeys(ids)
    found = []
    for queue in conf.queues() if len(ids) > SLICE else ():
        with reaching(client):
            length: Any = client.llen(keys.queue(queue))
            for first in range(0, length if length < MUCH_LONGER * len(ids) else 0, READ):
                listed: Any = client.lrange(keys.queue(queue), first, first + READ - 1)
                for job_id in map(as_text, listed):
                    if job_id in left:
                        del left[job_id]
                        found.append(job_id)
    return [*found, *left]


def handles(client: Redis, ids: Sequence[str]) -> Iterator[MandateJob]:
    """Yield a handle to each of these jobs; one round trip."""
    with reaching(client), client.pipeline(transaction=False) as pipeline:
        for job_id in ids:
            pipeline.hmget(keys.job(job_id), "origin", "data")
        answers = pipeline.execute()
    for job_id, (queue, data) in zip(ids, answers, strict=True):
        job = MandateJob.handle(job_id, as_text(queue or b""), payload.inflated(data or b""), client)
        job.is_written = True
        yield job


def errors(client: Redis, batch_id: str) -> list[ErrorCount]:
    """Return the errors of the dead members, the most frequent first; of SAMPLE of them at most."""
    numbers: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    for some in slices(islice(job_ids(client, batch_id, MemberState.DEAD), SAMPLE)):
        with reaching(client), client.pipeline(transaction=False) as pipeline:
            for job_id in some:
                pipeline.hmget(keys.job(job_id), "fingerprint", "reason")
            for fingerprint, reason in pipeline.execute():
                text = as_text(reason or b"")
                error = as_text(fingerprint or b"") or text
                numbers[error] += 1
                reasons.setdefault(error, text)
    return [ErrorCount(reasons[error], number, error) for error, number in numbers.most_common()]
