"""Searches the jobs in all states at once, as far as a page may: some of the newest jobs of each list and registry."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from jobs.inspection import query, sources, unsent
from jobs.inspection.query import Count, JobQuery
from jobs.inspection.rows import Row
from jobs.inspection.search import Search
from jobs.job import JobState


@dataclass(frozen=True, slots=True)
class Found:
    """
    The matching jobs, the newest first, and how many there are in each state. `looked_at`: jobs that were examined, of
    `total`.
    """

    rows: list[Row]
    counts: Mapping[JobState, Count]
    looked_at: int
    total: int


def find_all(search: Search, most: int) -> Found:
    """
    Search the jobs in all states that the search names, or in all. Examines about `most` jobs, in four round trips; two
    more count exactly where no job has to be read.

    A job whose id is given is found wherever it is. Raises SearchError.
    """
    states = search.states or unsent.states()
    queries = {state: JobQuery.of(state, {"q": str(search)}) for state in states}
    first = next(iter(queries.values()))
    if first.job_id:
        named = [row for each in queries.values() for row in each.page().rows if row.state is each.state]
        tallied = Counter(row.state for row in named)
        return Found(named, {state: Count(tallied[state]) for state in states}, len(named), len(named))
    places: dict[str, list[JobState]] = {}
    for state in states:
        if state is not JobState.UNSENT:
            places.setdefault(query.PLACES[state], []).append(state)
    groups = [queries[of_place[0]].sources() for of_place in places.values()]
    sizes = sources.sizes(source for group in groups for source in group)
    found = sources.newest(groups, most // len(groups)) if groups else []
    read = iter(sources.read([each for group in found for each in group]))
    rows: list[Row] = []
    counts: dict[JobState, Count] = {}
    for of_place, group, taken in zip(places.values(), groups, found, strict=True):
        of_group = [row for row in (next(read) for _ in taken) if row is not None]
        more = len(taken) < sum(sizes[source] for source in group)
        for state in of_place:
            fitting = [row for row in of_group if queries[state].fits(row)]
            counts[state] = Count(len(fitting), more=more)
            rows += [row for row in fitting if row.state is state]  # a blocked job counts as waiting, too
    if JobState.UNSENT in states:
        chunk = list(replace(queries[JobState.UNSENT], newest_first=True).all(min(most, sources.AT_ONCE)))
        counts[JobState.UNSENT] = Count(len(chunk), more=len(chunk) == sources.AT_ONCE)
        rows += chunk
    if not first.is_search:
        counts = {state: Count(0) for state in states} | query.counts(first.queue)
    rows.sort(key=lambda row: row.at.timestamp() if row.at else 0.0, reverse=True)
    return Found(rows, {state: counts[state] for state in states}, sum(map(len, found)), sum(sizes.values()))


def counts(search: Search, most: int) -> dict[JobState, Count]:
    """Count the matching jobs in each state, whatever states the search names: exactly if none has to be read."""
    anywhere = replace(search, terms=tuple(term for term in search.terms if term.name not in ("state", "order")))
    if not JobQuery.of(JobState.DEAD, {"q": str(anywhere)}).is_search:
        return query.counts(anywhere.value("queue") or None)
    return dict(find_all(anywhere, most).counts)
