"""
The same change to many jobs: immediately, or in a job of its own, whose progress is kept in Redis for a day.

If the worker dies, the job runs again, changes the remaining jobs, and continues the count.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from redis import Redis
from rq.job import Job

from jobs import conf, control, queues, runtime
from jobs.broker import keys
from jobs.broker.connections import Script, get_connection, run_script
from jobs.broker.times import DAY, as_text, moment, number_of
from jobs.client import new_job
from jobs.inspection import Count, JobQuery, error_counts
from jobs.inspection.rows import Row
from jobs.inspection.search import Search
from jobs.job import JobState
from jobs.record import registry

CHANGES: dict[str, Callable[[Job], object]] = {
    "retry": control.retry,
    "run_now": control.run_now,
    "cancel": control.cancel,
    "delete": control.delete,
}
PLAIN = ("queue", "command", "error", "id", "since", "until", "order")  # filters that the release before has, too
CLEAR = "clear"  # delete all jobs of a queue
COMMAND = "jobs.ChangeMany"  # carries a change out
# What a change may do to other changes: their own right is needed to start them again, and a job has no user.
_HARMLESS = ("cancel", "delete")
PASSES = 5  # over the list: if others remove jobs during a pass, those behind move up, and the pass misses them
KEPT_FOR = DAY  # seconds that the progress of a change is kept
KEPT = 100  # changes whose progress is listed

_RECENT_SCRIPT = Script("recent.lua")
_AHEAD = (JobState.SCHEDULED, JobState.RETRYING)  # listed by the time at which they are due


@dataclass(frozen=True, slots=True)
class Change:
    """A change of many jobs: the request and its progress."""

    id: str  # of the job that makes it
    name: str  # retry, run_now, cancel, delete, clear
    state: str
    filters: Mapping[str, str]
    count: Count  # jobs that matched when it was requested
    began: datetime
    changed: int = 0
    refused: int = 0  # no longer in a state that allows the change
    ended: datetime | None = None


def apply(name: str, jobs: Iterable[Job]) -> tuple[int, int]:
    """
    Make the change of that name to each job. Returns how many were changed, and how many refused it.

    Raises KeyError for an unknown name.
    """
    answers = control.change_all(name, list(jobs))
    changed = answers.count(None)
    return changed, len(answers) - changed


def start(name: str, state: str, filters: Mapping[str, str], count: Count) -> Change:
    """
    Enqueue a job that changes all jobs that match the filters now; jobs that are enqueued, or end, later are not
    changed. It goes to the head of the first queue. Raises UnknownQueueError or ValueError for invalid filters.
    """
    began = datetime.fromtimestamp(runtime.now(), UTC)
    requested = JobQuery.of(state, filters).until
    search = Search.of(filters).frozen()
    if JobState(state) not in _AHEAD:
        search = search.with_term("until", min(began, requested or began).isoformat())
    command: Any = registry.get(COMMAND)
    new = new_job.new_job(command, _arguments(name, state, search), {}, queue=command.queue)
    key = keys.change(new.id)
    record: dict[Any, Any] = {"name": name, "state": state, "filters": orjson.dumps(dict(filters))}
    record |= {"count": count.value, "more": int(count.more), "began": repr(began.timestamp())}
    with _client().pipeline() as pipeline:
        pipeline.hset(key, mapping=record)
        pipeline.expire(key, KEPT_FOR)
        pipeline.zadd(keys.CHANGES, {new.id: began.timestamp()})
        pipeline.zremrangebyrank(keys.CHANGES, 0, -KEPT - 1)
        pipeline.expire(keys.CHANGES, KEPT_FOR)
        pipeline.execute()
    queues.push([new._replace(at_front=True)])
    return Change(new.id, name, state, dict(filters), count, began)


def _arguments(name: str, state: str, search: Search) -> tuple[Any, ...]:
    """
    Return the arguments of the job. The release before knows the filters of PLAIN alone and would ignore another, which
    means more jobs; so the rest is an argument of its own, for which that release's worker refuses the job.
    """
    plain = [term for term in search.terms if term.name in PLAIN]
    filters = {term.name: search.command if term.name == "command" else term.value for term in plain}
    rest = str(search.without(*plain))
    return (name, state, filters, rest) if rest else (name, state, filters)


def carry_out(job_id: str, name: str, state: str, filters: Mapping[str, str], search: str = "") -> tuple[int, int]:
    """Make the change, in that job. Returns how many jobs were changed in all, and how many refused it."""
    query, client = JobQuery.of(state, {**filters, "q": search}), _client()
    followed = query.fingerprint if name == "retry" else ""
    before: Any = client.hget(keys.change(job_id), "changed")  # by an attempt that was cut short
    changed, refused = int(number_of(before)), 0
    steps = _cleared(query) if name == CLEAR else _changed(query, name, followed, anew=not changed)
    for more, refused in steps:
        changed += more
        _note(client, job_id, changed=changed, refused=refused)
    _note(client, job_id, changed=changed, refused=refused, ended=repr(runtime.now()))
    return changed, refused


def follow(fingerprint: str, rows: Iterable[Row], *, anew: bool) -> None:
    """Follow what becomes of jobs of an error that were retried; `anew`: instead of those that were before."""
    by_client: dict[Redis, list[str]] = {}
    for row in rows:
        by_client.setdefault(row.client, []).append(row.id)
    for client, ids in by_client.items():
        error_counts.follow(client, fingerprint, ids, anew=anew)


def get(job_id: str) -> Change | None:
    """Return the change that the job of that id makes or has made; None if its record has expired or never existed."""
    record: Any = _client().hgetall(keys.change(job_id))
    return _read(job_id, record) if record else None


def recent(most: int = 5) -> list[Change]:
    """Return the latest changes, the newest first, in one round trip."""
    answer = run_script(_client(), _RECENT_SCRIPT, [keys.CHANGES], [keys.change(""), most])
    records = [(as_text(job_id), pairs) for job_id, pairs in zip(answer[::2], answer[1::2], strict=True)]
    return [_read(job_id, dict(zip(pairs[::2], pairs[1::2], strict=True))) for job_id, pairs in records if pairs]


# --- step by step ----------------------------------------------------------------------------

Step = tuple[int, int]  # how many more were changed; how many have refused it in this pass


def _changed(query: JobQuery, name: str, followed: str, *, anew: bool) -> Iterator[Step]:
    """
    Changed jobs leave the list, so the next chunk begins after those that stay. `followed`: the fingerprint of the
    error whose jobs they are, or ""; `anew`: whether no earlier attempt has changed any.
    """
    done: set[str] = set()  # one that comes back is not changed again
    for _ in range(PASSES):
        stay: Counter[str] = Counter()
        before, refused = len(done), 0
        while chunk := query.chunk(stay):
            matching = [row for _, row in chunk if row is not None and row.id not in done and query.fits(row)]
            allowed = [row for row in matching if row.command != COMMAND or name in _HARMLESS]
            answers = control.change_all(name, [row.job for row in allowed])
            changed = {row.id for row, refusal in zip(allowed, answers, strict=True) if refusal is None}
            if followed:
                follow(followed, [row for row in allowed if row.id in changed], anew=anew and not done)
            stay.update(queue for queue, row in chunk if row is None or row.id not in changed)
            refused += len(matching) - len(changed)
            done |= changed
            yield len(changed), refused
        if len(done) == before:
            return


def _cleared(query: JobQuery) -> Iterator[Step]:
    until = query.until or datetime.fromtimestamp(runtime.now(), UTC)
    for name in [query.queue] if query.queue else conf.queues():
        for deleted in control.clear(name, until):
            yield deleted, 0


# --- storage ---------------------------------------------------------------------------------


def _client() -> Redis:
    return get_connection(next(iter(conf.queues())))


def _note(client: Redis, job_id: str, **values: int | str) -> None:
    mapping: dict[Any, Any] = dict(values)
    with client.pipeline() as pipeline:
        pipeline.hset(keys.change(job_id), mapping=mapping)
        pipeline.expire(keys.change(job_id), KEPT_FOR)
        pipeline.execute()


def _read(job_id: str, record: Mapping[bytes, bytes]) -> Change:
    text = {as_text(name): as_text(value) for name, value in record.items()}
    number = {name: number_of(text.get(name)) for name in ("count", "more", "began", "changed", "refused", "ended")}
    return Change(
        id=job_id,
        name=text.get("name", ""),
        state=text.get("state", ""),
        filters=_filters(text.get("filters", "")),
        count=Count(int(number["count"]), more=bool(number["more"])),
        began=moment(number["began"]),
        changed=int(number["changed"]),
        refused=int(number["refused"]),
        ended=moment(number["ended"]) if number["ended"] else None,
    )


def _filters(text: str) -> dict[str, str]:
    try:
        return {str(name): str(value) for name, value in orjson.loads(text).items()}
    except (ValueError, AttributeError):  # somebody has tampered with it
        return {}
