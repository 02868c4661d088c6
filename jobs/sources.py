"""The lists and registries that hold jobs: ids read from them in their order, and the rows of those."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redis import Redis
from rq.defaults import RQ_KEY_PREFIX
from rq.utils import as_text

from jobs import prerequisites
from jobs.connections import Script, Word, run_script
from jobs.job import JobState
from jobs.rows import FIELDS, LARGEST, Row

CHUNK = 500  # jobs whose records are read in a round trip: the server is held up for a few milliseconds
LARGEST_TOGETHER = 8 * 1_024 * 1_024  # bytes of payloads in a round trip

_TALLY, _ROWS = Script("lua/tally.lua"), Script("lua/rows.lua")


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

    def ask(self, pipeline: Any, offset: int, count: int, *, newest_first: bool) -> None:
        """Ask for ids from an offset on; `found` understands the answer."""
        last = offset + count - 1
        if self.place != "queue":
            pipeline.zrange(self.key, offset, last, desc=newest_first, withscores=True)
        elif newest_first:
            pipeline.lrange(self.key, -last - 1, -offset - 1)
        else:
            pipeline.lrange(self.key, offset, last)

    def found(self, answer: Any, *, newest_first: bool) -> list[Found]:
        """The ids in what the server said, in their order."""
        if self.place != "queue":  # a claim is `<id>:<execution>`
            return [Found(as_text(member).partition(":")[0], score, self) for member, score in answer]
        return [Found(as_text(job_id), 0.0, self) for job_id in (reversed(answer) if newest_first else answer)]


def ids(
    sources: Sequence[Source], offsets: Mapping[str, int], count: int, *, newest_first: bool
) -> list[Iterator[Found]]:
    """
    The ids in each from its queue's offset on, read `count` at a time: the first of all in one round trip a server.
    """

    def ask(of_client: Sequence[Source], starts: Sequence[int]) -> list[list[Found]]:
        with of_client[0].client.pipeline(transaction=False) as pipeline:
            for source, start in zip(of_client, starts, strict=True):
                source.ask(pipeline, start, count, newest_first=newest_first)
            answers = pipeline.execute()
        return [
            source.found(answer, newest_first=newest_first) for source, answer in zip(of_client, answers, strict=True)
        ]

    def go_on(source: Source, start: int, found: list[Found]) -> Iterator[Found]:
        while True:
            yield from found
            if len(found) < count:
                return
            start += count
            (found,) = ask([source], [start])

    iterators: dict[Source, Iterator[Found]] = {}
    for of_client in _by_client(sources).values():
        starts = [offsets.get(source.queue, 0) for source in of_client]
        for source, start, found in zip(of_client, starts, ask(of_client, starts), strict=True):
            iterators[source] = go_on(source, start, found)
    return [iterators[source] for source in sources]


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
    """The rows of these jobs, a round trip a server, two more for those that wait; None for one that has vanished."""
    rows: dict[int, Row | None] = {}
    by_client: dict[Redis, list[int]] = {}
    for at, each in enumerate(found):
        by_client.setdefault(each.source.client, []).append(at)
    for client, positions in by_client.items():
        ids = [found[at].job_id for at in positions]
        arguments: list[Word] = [f"{RQ_KEY_PREFIX}:job:", LARGEST, LARGEST_TOGETHER, len(FIELDS), *FIELDS, *ids]
        records = run_script(client, _ROWS, [], arguments)
        waiting = [found[at].job_id for at in positions if found[at].source.place == "deferred"]
        blocked = prerequisites.blocked(client, waiting) if waiting else set()
        for at, record in zip(positions, records, strict=True):
            each = found[at]
            row = Row.of(each.job_id, client, record, each.score, each.source.queue)
            if row is not None and each.job_id in blocked and row.state is JobState.WAITING:
                row = replace(row, state=JobState.BLOCKED)
            rows[at] = row
    return [rows[at] for at in range(len(found))]
