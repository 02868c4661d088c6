"""Reads job ids from lists and registries, in their order, and the rows of those jobs."""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

from redis import Redis

from jobs.broker import keys
from jobs.broker.connections import Script, Word, run_many
from jobs.broker.times import as_text
from jobs.inspection.rows import FIELDS, LARGEST, Row
from jobs.job import JobState
from jobs.record import prerequisites

_TALLY = Script("tally.lua")
_ROWS = Script("rows.lua")
AT_ONCE = 500  # records that one script reads: it holds the server up for a few milliseconds
LARGEST_TOGETHER = 8 * 1_024 * 1_024  # bytes of payloads that one script reads


@dataclass(frozen=True, slots=True)
class Found:
    """A job's id, its source, and its score there, by which the source is sorted."""

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
        return keys.registry(self.place, self.queue)

    def ask(self, pipeline: Any, offset: int, size: int, *, newest_first: bool) -> None:
        """Request `size` ids from an offset on."""
        last = offset + size - 1
        if self.place != "queue":
            pipeline.zrange(self.key, offset, last, desc=newest_first, withscores=True)
        elif newest_first:
            pipeline.lrange(self.key, -last - 1, -offset - 1)
        else:
            pipeline.lrange(self.key, offset, last)

    def found(self, answer: Any, *, newest_first: bool) -> list[Found]:
        """Parse the server's answer to `ask`."""
        if self.place == "queue":
            return [Found(as_text(job_id), 0.0, self) for job_id in (reversed(answer) if newest_first else answer)]
        # A claim is `<id>:<execution>`.
        return [Found(as_text(member).partition(":")[0], score, self) for member, score in answer]


def take(sources: Sequence[Source], offsets: Mapping[str, int], size: int, *, newest_first: bool) -> list[Found]:
    """
    Return the next `size` jobs of these sources of one place, after the offset of each queue. One round trip a server.

    Queues come in the order in which they are given; registries are merged by score.
    """
    taken = _take_each(sources, offsets, size, newest_first=newest_first)
    listed = [taken[source] for source in sources]
    if sources[0].place == "queue":
        return list(islice(chain.from_iterable(listed), size))
    return list(islice(heapq.merge(*listed, key=lambda each: each.score, reverse=newest_first), size))


def newest(groups: Sequence[Sequence[Source]], size: int) -> list[list[Found]]:
    """
    Return of each group of sources (of one place) about `size` of the newest jobs: not more than twice its share of
    each source, so that many queues do not make it slow. One round trip a server.
    """
    each = max(2 * size // max(map(len, groups)), 1)
    taken = _take_each([source for group in groups for source in group], {}, each, newest_first=True)
    merged = (heapq.merge(*(taken[source] for source in group), key=lambda one: -one.score) for group in groups)
    return [list(islice(found, size)) for found in merged]


def _take_each(
    sources: Iterable[Source], offsets: Mapping[str, int], size: int, *, newest_first: bool
) -> dict[Source, list[Found]]:
    taken: dict[Source, list[Found]] = {}
    for client, of_client in _by_client(sources).items():
        with client.pipeline(transaction=False) as pipeline:
            for source in of_client:
                source.ask(pipeline, offsets.get(source.queue, 0), size, newest_first=newest_first)
            for source, answer in zip(of_client, pipeline.execute(), strict=True):
                taken[source] = source.found(answer, newest_first=newest_first)
    return taken


def locate(source: Source, job_id: str) -> Found:
    """Return a job as `take` would, from its source."""
    score: Any = None if source.place == "queue" else source.client.zscore(source.key, job_id)
    return Found(job_id, score or 0.0, source)


def sizes(sources: Iterable[Source]) -> dict[Source, int]:
    """Count the jobs in each source. One round trip a server."""
    sizes: dict[Source, int] = {}
    for client, of_client in _by_client(sources).items():
        with client.pipeline(transaction=False) as pipeline:
            for source in of_client:
                pipeline.llen(source.key) if source.place == "queue" else pipeline.zcard(source.key)
            sizes |= zip(of_client, pipeline.execute(), strict=True)
    return sizes


def tally(groups: Sequence[Sequence[Source]], most: int) -> list[tuple[int, Counter[JobState]]]:
    """
    Count jobs by state. Returns, for each group of registries (of one place), how many jobs were read, and how many of
    those are in each state. One round trip a server, which reads at most `most` records of each group.
    """
    looked_at, by_state = [0] * len(groups), [Counter[JobState]() for _ in groups]
    for client in _by_client(source for group in groups for source in group):
        grouped = [[source.key for source in group if source.client is client] for group in groups]
        answers = run_many(client, _TALLY, [(each, [keys.RQ, most]) for each in grouped])
        for at, (seen, *pairs) in enumerate(answers):
            looked_at[at] += seen
            states = zip(pairs[::2], pairs[1::2], strict=True)
            by_state[at].update({JobState(as_text(state)): count for state, count in states})
    return list(zip(looked_at, by_state, strict=True))


def _by_client(sources: Iterable[Source]) -> dict[Redis, list[Source]]:
    by_client: dict[Redis, list[Source]] = {}
    for source in sources:
        by_client.setdefault(source.client, []).append(source)
    return by_client


def read(found: Sequence[Found]) -> list[Row | None]:
    """
    Return the rows of these jobs, None for a job that no longer exists. One round trip a server, and two more for
    waiting jobs.
    """
    rows: dict[int, Row | None] = {}
    by_client: dict[Redis, list[int]] = {}
    for at, each in enumerate(found):
        by_client.setdefault(each.source.client, []).append(at)
    for client, positions in by_client.items():
        calls: list[tuple[list[str], list[Word]]] = []
        for first in range(0, len(positions), AT_ONCE):
            ids = [found[at].job_id for at in positions[first : first + AT_ONCE]]
            calls.append(([], [keys.job(""), LARGEST, LARGEST_TOGETHER, len(FIELDS), *FIELDS, *ids]))
        records: list[Any] = [record for answer in run_many(client, _ROWS, calls) for record in answer]
        waiting = [found[at].job_id for at in positions if found[at].source.place == "deferred"]
        blocked = prerequisites.blocked(client, waiting) if waiting else set()
        for at, record in zip(positions, records, strict=True):
            each = found[at]
            row = Row.of(each.job_id, client, record, each.score, each.source.queue)
            if row is not None and each.job_id in blocked and row.state is JobState.WAITING:
                row = replace(row, state=JobState.BLOCKED)
            rows[at] = row
    return [rows[at] for at in range(len(found))]
