"""The lists and registries that hold jobs: ids read from them in their order, and the rows of those."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redis import Redis
from rq.defaults import RQ_KEY_PREFIX
from rq.utils import as_text

from jobs import prerequisites
from jobs.job import JobState
from jobs.rows import FIELDS, LARGEST, Row

CHUNK = 200  # jobs a round trip


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


def sizes(sources: Sequence[Source]) -> list[int]:
    by_client: dict[int, list[Source]] = {}
    for source in sources:
        by_client.setdefault(id(source.client), []).append(source)
    sizes: list[int] = []
    for of_client in by_client.values():
        with of_client[0].client.pipeline(transaction=False) as pipeline:
            for source in of_client:
                pipeline.llen(source.key) if source.place == "queue" else pipeline.zcard(source.key)
            sizes += pipeline.execute()
    return sizes


def read(found: Sequence[Found]) -> list[Row | None]:
    """The rows of these jobs, two round trips a server; None for one that has vanished."""
    rows: dict[int, Row | None] = {}
    by_client: dict[int, list[int]] = {}
    for at, each in enumerate(found):
        by_client.setdefault(id(each.source.client), []).append(at)
    for positions in by_client.values():
        client = found[positions[0]].source.client
        with client.pipeline(transaction=False) as pipeline:
            for at in positions:
                key = f"{RQ_KEY_PREFIX}:job:{found[at].job_id}"
                pipeline.hmget(key, *FIELDS)
                pipeline.hstrlen(key, "data")
            answers = pipeline.execute(raise_on_error=False)
            for at, size in zip(positions, answers[1::2], strict=True):
                # A payload of many megabytes is not worth a row.
                key = f"{RQ_KEY_PREFIX}:job:{found[at].job_id}"
                pipeline.hmget(key, "data") if isinstance(size, int) and size <= LARGEST else pipeline.ping()
            payloads = pipeline.execute(raise_on_error=False)
        waiting = [found[at].job_id for at in positions if found[at].source.place == "deferred"]
        blocked = prerequisites.blocked(client, waiting) if waiting else set()
        for at, fields, size, payload in zip(positions, answers[::2], answers[1::2], payloads, strict=True):
            each = found[at]
            data = payload[0] if isinstance(payload, list) else None
            row = Row.of(each.job_id, each.source.client, fields, data, size, each.score, each.source.queue)
            if row is not None and each.job_id in blocked and row.state is JobState.WAITING:
                row = replace(row, state=JobState.BLOCKED)
            rows[at] = row
    return [rows[at] for at in range(len(found))]
