"""The lists and registries that hold jobs: ids read from them in their order, and the rows of those."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redis import Redis
from rq.defaults import RQ_KEY_PREFIX
from rq.utils import as_text

from jobs import prerequisites
from jobs.connections import Script, Word, run_script
from jobs.job import JobState
from jobs.rows import FIELDS, LARGEST, Row

CHUNK = 200  # jobs a round trip

_TALLY = Script("lua/tally.lua")
_ROWS = Script("lua/rows.lua")
AT_ONCE = 500  # records that a script reads: it holds the server up for a few milliseconds
LARGEST_TOGETHER = 8 * 1_024 * 1_024  # bytes of payloads that it reads


@dataclass(frozen=True, slots=True)
class Found:
    """A job's id, where it was found, and by what it is sorted there."""

    job_id: str
    score: float
    source: "Source"


@dataclass(frozen=True, slots=True)
class Source:
    """One queue's list, or one of its registries."""

    client: Redis
    place: str
    queue: str

    @property
    def key(self) -> str:
        return f"{RQ_KEY_PREFIX}:{self.place}:{self.queue}"

    def ids(self, offset: int, *, newest_first: bool) -> Iterator[Found]:
        """Ids from an offset on, read CHUNK at a time."""
        while True:
            found = list(self._read(offset, newest_first=newest_first))
            yield from found
            if len(found) < CHUNK:
                return
            offset += CHUNK

    def _read(self, offset: int, *, newest_first: bool) -> Iterable[Found]:
        last = offset + CHUNK - 1
        if self.place == "queue":
            listed: Any = (
                reversed(self.client.lrange(self.key, -last - 1, -offset - 1))
                if newest_first
                else self.client.lrange(self.key, offset, last)
            )
            return [Found(as_text(job_id), 0.0, self) for job_id in listed]
        scored: Any = self.client.zrange(self.key, offset, last, desc=newest_first, withscores=True)
        # A claim is `<id>:<execution>`.
        return [Found(as_text(member).partition(":")[0], score, self) for member, score in scored]


def sizes(sources: Iterable[Source]) -> dict[Source, int]:
    """How many jobs are in each, one round trip a server."""
    sizes: dict[Source, int] = {}
    for client, of_client in _by_client(sources).items():
        with client.pipeline(transaction=False) as pipeline:
            for source in of_client:
                pipeline.llen(source.key) if source.place == "queue" else pipeline.zcard(source.key)
            sizes |= zip(of_client, pipeline.execute(), strict=True)
    return sizes


def tally(sources: Iterable[Source], most: int) -> tuple[int, Counter[JobState]]:
    """
    How many of the jobs in registries of one place were looked at, and how many of those are in each state; one round
    trip a server, which reads `most` records.
    """
    looked_at, found = 0, Counter[JobState]()
    for client, of_client in _by_client(sources).items():
        seen, *pairs = run_script(client, _TALLY, [source.key for source in of_client], [f"{RQ_KEY_PREFIX}:", most])
        looked_at += seen
        found.update({JobState(as_text(state)): count for state, count in zip(pairs[::2], pairs[1::2], strict=True)})
    return looked_at, found


def _by_client(sources: Iterable[Source]) -> dict[Redis, list[Source]]:
    found: dict[Redis, list[Source]] = {}
    for source in sources:
        found.setdefault(source.client, []).append(source)
    return found


def read(found: Sequence[Found]) -> list[Row | None]:
    """
    The rows of these jobs, AT_ONCE a round trip, and two more a server for those that wait; None for one that has
    vanished.
    """
    rows: dict[int, Row | None] = {}
    by_client: dict[Redis, list[int]] = {}
    for at, each in enumerate(found):
        by_client.setdefault(each.source.client, []).append(at)
    for client, positions in by_client.items():
        records: list[Any] = []
        for first in range(0, len(positions), AT_ONCE):
            ids = [found[at].job_id for at in positions[first : first + AT_ONCE]]
            arguments: list[Word] = [f"{RQ_KEY_PREFIX}:job:", LARGEST, LARGEST_TOGETHER, len(FIELDS), *FIELDS, *ids]
            records += run_script(client, _ROWS, [], arguments)
        waiting = [found[at].job_id for at in positions if found[at].source.place == "deferred"]
        blocked = prerequisites.blocked(client, waiting) if waiting else set()
        for at, record in zip(positions, records, strict=True):
            each = found[at]
            row = Row.of(each.job_id, client, record, each.score, each.source.queue)
            if row is not None and each.job_id in blocked and row.state is JobState.WAITING:
                row = replace(row, state=JobState.BLOCKED)
            rows[at] = row
    return [rows[at] for at in range(len(found))]
