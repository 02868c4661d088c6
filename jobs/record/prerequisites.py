"""
Prerequisites: jobs that must end before another begins.

The links are stored under keys of our own. `jobs:waits:<id>` holds the prerequisites that a waiting job still lacks;
`jobs:dependents:<id>` holds the jobs that wait for a job to finish, `jobs:followers:<id>` those that wait for it to end
in any way. `push.lua` links the jobs, and the end of a prerequisite releases its dependents: nothing polls.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from math import inf
from typing import Any, NamedTuple

import orjson
from redis import Redis
from redis.exceptions import RedisError
from rq.job import Job, JobStatus

from jobs import runtime
from jobs.broker import keys
from jobs.broker.connections import Script, address, reaching, run_script, same_server
from jobs.broker.times import HOUR, as_text, iso
from jobs.errors import PrereqJobNotFinishedError, PrerequisiteError
from jobs.safe_logging import safe_logger

logger = safe_logger("jobs")

Given = Iterable["Job | str"]

_BAD_ENDS = {status.value.encode() for status in (JobStatus.FAILED, JobStatus.CANCELED, JobStatus.STOPPED)}

LINKED_AT_ONCE = 100  # prerequisites that a call links a job to: a few milliseconds
READ_AT_ONCE = 1_000  # prerequisites whose records a round trip reads

_LINK = Script("link.lua")

BATCH_EVENT = "batch:"  # begins the prerequisite that stands for the event of a batch
WAIT, RUN = "wait", "run"  # what a job does if one of its prerequisites ends badly


def listed(text: bytes | str) -> list[str]:
    """Return the ids in the field `prereqs` of a record; none if it cannot be read."""
    try:
        return list(map(str, orjson.loads(text or b"[]")))
    except (ValueError, TypeError):  # tampered with
        return []


class Prerequisites(NamedTuple):
    """
    The prerequisites of one new job. `any_end`: a bad end releases it, too; `durable`: ids of those that are known to
    be durable, beside handles that say so.
    """

    jobs: tuple["Job | str", ...] = ()
    any_end: bool = False
    durable: tuple[str, ...] = ()

    def ids(self) -> list[str]:
        """Return their ids. Read when the job is written: by then a unique one may have become another's duplicate."""
        return [given if isinstance(given, str) else given.id for given in self.jobs]

    def unwritten(self) -> list[str]:
        """
        Return the ids of those that are certainly not in Redis and have not ended: they wait for a transaction. One
        that was rolled back has ended badly.
        """
        return [given.id for given in self.unwritten_handles()]

    def unwritten_handles(self) -> list[Any]:
        """Return the handles of those of `unwritten`."""
        return [given for given in self._unwritten() if not getattr(given, "is_durable", False)]

    def durable_ids(self) -> list[str]:
        """
        Return the ids of durable ones that this process has not seen written: without a record, one of them has ended
        only if Redis has ever had it.
        """
        durable = [given.id for given in self._unwritten() if getattr(given, "is_durable", False)]
        return [*self.durable, *durable] if self.durable else durable

    def _unwritten(self) -> "list[Job]":
        handles = [
            given for given in self.jobs if not isinstance(given, str) and not getattr(given, "is_written", True)
        ]
        return [given for given in handles if not (self.any_end and _is_rolled_back(given))]


def _is_rolled_back(handle: Job) -> bool:
    transactions = getattr(handle, "transactions", None)
    return transactions is not None and transactions.are_over


NONE = Prerequisites()


def resolve(given: Given | None, failure: str, client: Redis, *, is_durable: bool = False) -> Prerequisites:
    """
    Check the arguments `prereq_jobs` and `prereq_failure` of `defer`. Returns the prerequisites.

    A durable job must not need Redis here: whether its prerequisites can finish is decided when it is pushed. One that
    is neither durable nor written is refused, because it may be lost while the job is not.

    Raises PrerequisiteError for a value that is not a job or an id, for a job of another server than `client`'s, and
    for one that was deleted or cancelled; ValueError for an invalid `prereq_failure`; RedisUnavailableError.
    """
    if failure not in (WAIT, RUN):
        raise ValueError(f'prereq_failure={failure!r} is impossible. Give "{WAIT}" or "{RUN}".')
    if given is None:
        return NONE
    if isinstance(given, str | bytes | Job) or not isinstance(given, Iterable):
        raise PrerequisiteError(f"prereq_jobs={given!r} is not a list. Give a list of jobs, or of their ids.")
    jobs = tuple({_id(each, client): each for each in given}.values())
    if is_durable:
        if plain := Prerequisites(jobs).unwritten():
            raise PrerequisiteError(
                f"Job {plain[0]} cannot be a prerequisite of a durable job: it is not durable, and not written yet. "
                "Defer it with durable=True, or after the transaction."
            )
        return Prerequisites(jobs, failure == RUN)
    for job_id, end in _bad_ends(client, [each if isinstance(each, str) else each.id for each in jobs]):
        raise PrerequisiteError(f"Job {job_id} cannot be a prerequisite: it was {end}, so it will never finish.")
    return Prerequisites(jobs, failure == RUN)


def _id(given: object, client: Redis) -> str:
    if isinstance(given, Job):
        if not same_server(given.connection, client):
            raise PrerequisiteError(
                f"Job {given.id} cannot be a prerequisite: it is on another Redis ({address(given.connection)}) "
                f"than the queue's ({address(client)})."
            )
        return str(given.id)
    if isinstance(given, str) and given and given.replace("-", "").replace("_", "").isalnum() and given.isascii():
        return given
    raise PrerequisiteError(f"{given!r} cannot be a prerequisite. Give jobs, as `defer` returns them, or their ids.")


def _bad_ends(client: Redis, ids: Sequence[str]) -> list[tuple[str, str]]:
    answers: list[Any] = []
    for first in range(0, len(ids), READ_AT_ONCE):
        with reaching(client), client.pipeline(transaction=False) as pipeline:
            for job_id in ids[first : first + READ_AT_ONCE]:
                pipeline.hmget(keys.job(job_id), "status", "state")
                pipeline.get(keys.gone(job_id))
            answers += pipeline.execute()
    ends = []
    for job_id, (status, state), gone in zip(ids, answers[::2], answers[1::2], strict=True):
        if gone is not None:
            ends.append((job_id, as_text(gone)))
        elif status == JobStatus.CANCELED.value.encode() and state != b"discarded":
            ends.append((job_id, "cancelled"))
    return ends


def announce(client: Redis, job_id: str, ids: Sequence[str]) -> None:
    """
    Write the many prerequisites of a job that is about to be written, in slices; they expire in an hour if it is not.
    Raises redis-py's errors.
    """
    key = keys.unlinked(job_id)
    for first in range(0, len(ids), READ_AT_ONCE):
        with client.pipeline(transaction=False) as pipeline:
            pipeline.sadd(key, *ids[first : first + READ_AT_ONCE])
            pipeline.expire(key, HOUR)
            pipeline.execute()


def link(client: Redis, job_id: str, until: float = inf) -> list[str]:
    """
    Link a waiting job to the prerequisites that `announce` wrote, in slices, until `until` (monotonic seconds) at most,
    but for one slice. Returns the id of the job if it waits for none of them. Raises redis-py's errors.
    """
    key = keys.unlinked(job_id)
    while True:
        left, started = run_script(
            client, _LINK, [key], [keys.RQ, job_id, LINKED_AT_ONCE, iso(runtime.now())], is_repeatable=True
        )
        if left == 0 or time.monotonic() > until:
            return [as_text(each) for each in started]


def link_all(client: Redis, ids: Iterable[str]) -> None:
    """Link jobs that are written. Raises nothing for a server that fails: a worker goes on."""
    for job_id in ids:
        try:
            link(client, job_id)
        except RedisError as error:
            logger.warning("a worker links job %s to its prerequisites: %s", job_id, error)


def demand_finished(client: Redis, ids: Iterable[str]) -> None:
    """Raise PrereqJobNotFinishedError if one of these jobs has a record and has not finished."""
    for job_id in ids:
        status = client.hget(keys.job(job_id), "status")
        if status is not None and status != JobStatus.FINISHED.value.encode():
            raise PrereqJobNotFinishedError(f"Unfinished job: {job_id}")


def lacking(client: Redis, job_id: str) -> set[str]:
    """Return the prerequisites that a job still waits for."""
    return {as_text(member) for member in client.smembers(keys.waits(job_id))}


def some_lacking(client: Redis, ids: Sequence[str], most: int) -> dict[str, tuple[list[str], int]]:
    """Return, for each of these jobs, some of the prerequisites that it waits for, and their number; one round trip."""
    return _some(client, {job_id: [keys.waits(job_id)] for job_id in ids}, most)


def some_dependents(client: Redis, job_id: str, most: int) -> tuple[list[str], int]:
    """Return some of the jobs that wait for this one, and their number; one round trip."""
    return _some(client, {job_id: [keys.dependents(job_id), keys.followers(job_id)]}, most)[job_id]


def _some(client: Redis, keys: Mapping[str, Sequence[str]], most: int) -> dict[str, tuple[list[str], int]]:
    with client.pipeline(transaction=False) as pipeline:
        for of_job in keys.values():
            for key in of_job:
                pipeline.scard(key)
                pipeline.sscan(key, count=most)  # the same ones each time, as long as the set does not change
        answers = iter(pipeline.execute())
    some_of: dict[str, tuple[list[str], int]] = {}
    for job_id, of_job in keys.items():
        pairs = [(next(answers), next(answers)[1]) for _ in of_job]
        members = sorted(as_text(member) for _, some in pairs for member in some)
        some_of[job_id] = members[:most], sum(count for count, _ in pairs)
    return some_of


def blocked(client: Redis, ids: Sequence[str]) -> set[str]:
    """Return which of these waiting jobs are blocked, in two round trips; checks up to 100 prerequisites of each."""
    with client.pipeline(transaction=False) as pipeline:
        for job_id in ids:
            pipeline.srandmember(keys.waits(job_id), 100)
        waits = {job_id: jobs_of(lacked) for job_id, lacked in zip(ids, pipeline.execute(), strict=True)}
        for lacked in waits.values():
            for each in lacked:
                pipeline.hget(keys.job(as_text(each)), "status")
        statuses = iter(pipeline.execute(raise_on_error=False))  # a key may be no hash
    return {job_id for job_id, lacked in waits.items() if _bad_among(statuses, len(lacked))}


def jobs_of(lacked: Iterable[bytes | str]) -> list[str]:
    """Return the ids without the events of batches: `batch:<id>:<event>` among the prerequisites of a callback."""
    return [each for each in map(as_text, lacked) if not each.startswith(BATCH_EVENT)]


def _bad_among(statuses: Iterator[Any], count: int) -> bool:
    return any(list(map(_is_bad, islice(statuses, count))))  # takes all of them: the next job's follow


def _is_bad(status: Any) -> bool:
    return not isinstance(status, bytes) or status in _BAD_ENDS


def badly_ended(client: Redis, ids: Sequence[str]) -> list[str]:
    """Return which of these jobs ended without finishing, deleted ones too; one round trip."""
    with client.pipeline(transaction=False) as pipeline:
        for each in ids:
            pipeline.hget(keys.job(each), "status")
            pipeline.exists(keys.gone(each))
        answers = pipeline.execute()
    pairs = zip(ids, answers[::2], answers[1::2], strict=True)
    return [each for each, status, is_gone in pairs if status in _BAD_ENDS or (status is None and is_gone)]


def blocking(client: Redis, job_id: str) -> list[str]:
    """
    Return the prerequisites that a job waits for and that will not finish by themselves: dead, discarded, cancelled, or
    without a record (deleted, or rolled back).
    """
    ids = sorted(jobs_of(lacking(client, job_id)))
    with client.pipeline(transaction=False) as pipeline:
        for each in ids:
            pipeline.hget(keys.job(each), "status")
        statuses = pipeline.execute()
    return [each for each, status in zip(ids, statuses, strict=True) if _is_bad(status)]
