"""
The scheduler: pushes the runs of recurring entries, each once, however many schedulers there are.

It is rq-scheduler's, with its storage: `rq:scheduler:scheduled_jobs` holds entries by their next time, and each has the
record of a job, which is what its runs are copies of. What reads the time or writes is done anew: in one atomic step,
by the server's clock, under a lease that only its owner frees.
"""

import logging
import select
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError, RedisError
from rq.utils import as_text
from rq_scheduler.scheduler import Scheduler as StockScheduler

from jobs.broker import keys
from jobs.broker.connections import Script, run_script
from jobs.broker.lease import Lease
from jobs.broker.times import iso
from jobs.job import MandateJob
from jobs.recurring import serialization
from jobs.recurring import store as stored
from jobs.recurring.entry import Entry
from jobs.recurring.store import (
    add,
    entries,
    get,
    histories,
    lag,
    page,
    pause,
    remove,
    resume,
    run_now,
    sync,
    upcoming,
)

__all__ = [
    "Entry",
    "Scheduler",
    "add",
    "entries",
    "get",
    "histories",
    "lag",
    "page",
    "pause",
    "remove",
    "resume",
    "run_now",
    "sync",
    "upcoming",
]

logger = logging.getLogger("jobs.scheduler")

POLL = 1.0  # seconds between looks at what is due
LEASE = 5_000  # milliseconds: how long nobody schedules after the one who did has died
SLICE = 500  # entries a look
LONGEST = 0.1  # seconds of slices in a row, after which a parent sees to its children again
MISSED_AFTER = 10.0  # seconds by which a run is late when it counts as missed
MOST_MADE_UP = 100  # missed runs that catch_up="all" makes up for

_OCCUR, _DUE = Script("shared.lua", "occur.lua"), Script("due.lua")


class Scheduler(StockScheduler):
    """
    rq-scheduler's Scheduler, as django-rq's `get_scheduler` makes one, for one server.

    `tick` is what a worker's parent calls; `run` is `manage.py rqscheduler`.
    """

    job_class = MandateJob

    def __init__(self, queue_name: str = "default", interval: float = POLL, **kwargs: Any) -> None:
        super().__init__(queue_name, interval=interval, **kwargs)
        self.connection: Redis
        self._lease = Lease(self.scheduler_lock_key, LEASE, self._run)

    def _run(self, script: Script, keys: list[str], *arguments: Any) -> Any:
        return run_script(self.connection, script, keys, arguments)

    # --- what is due -----------------------------------------------------------------------------

    def tick(self) -> int:
        """Write the runs that are due, if it is our turn. Returns how many. Raises redis-py's errors."""
        return self._write_due() if self._lease.hold() else 0

    def _write_due(self) -> int:
        written, until = 0, time.monotonic() + LONGEST
        while time.monotonic() < until:
            found = self._run(_DUE, [self.scheduled_jobs_key], SLICE)
            now, due = float(found[0]), list(zip(found[1::2], found[2::2], strict=True))
            written += self._write_runs(now, due)
            if len(due) < SLICE:
                break
        return written

    def _write_runs(self, now: float, due: list[tuple[bytes, bytes]]) -> int:
        if not due:
            return 0
        known = serialization.read_many(self.connection, [as_text(entry_id) for entry_id, _ in due])
        steps = []
        for entry_id, score in due:
            try:
                entry = serialization.definition(as_text(entry_id), known[as_text(entry_id)])
                steps.append(self._step(as_text(entry_id), as_text(score), now, entry))
            except Exception:  # one entry that cannot be read must not stop the others
                logger.exception("the recurring entry %s cannot be read; it is put off for a minute", as_text(entry_id))
                self.connection.zadd(self.scheduled_jobs_key, {entry_id: now + 60})
        return sum(len(runs) for runs in self._in_one_go(steps))

    def _step(self, entry_id: str, score: str, now: float, entry: serialization.Definition) -> list[Any]:
        """What `occur.lua` is to do for one entry."""
        first, at = datetime.fromtimestamp(float(score), UTC), datetime.fromtimestamp(now, UTC)
        missed, following = "", ""
        if entry.recurs is None:
            runs = [(entry_id, float(score))]
        else:
            most = MOST_MADE_UP if entry.recurs.catch_up == "all" else 1
            times, next_time = entry.recurs.due_by(first, at, most)
            if entry.recurs.catch_up == "none":
                times = [each for each in times if (at - each).total_seconds() <= MISSED_AFTER]
            if not times or times[0] > first:
                missed = serialization.missed_line(first)
            runs = [(entry.run_id(each), each.timestamp()) for each in times]
            following = repr(next_time.timestamp()) if entry.goes_on(len(runs)) else ""
        words: list[Any] = [keys.RQ, entry_id, score, following, iso(now)]
        words += ["1" if entry.recurs is None or entry.recurs.overlap else "0", stored.RUNS_KEPT, missed]
        for run in runs:
            words += run
        return words

    def _in_one_go(self, steps: list[list[Any]]) -> list[list[bytes]]:
        """One round trip for all of them; each is atomic by itself."""
        try:
            return self._pipelined(steps)
        except NoScriptError:
            self.connection.script_load(_OCCUR.text)
            return self._pipelined(steps)

    def _pipelined(self, steps: list[list[Any]]) -> list[list[bytes]]:
        with self.connection.pipeline(transaction=False) as pipeline:
            for words in steps:
                pipeline.evalsha(_OCCUR.sha, 1, self.scheduled_jobs_key, *words)
            answers = pipeline.execute(raise_on_error=False)
        if lost := [answer for answer in answers if isinstance(answer, NoScriptError)]:
            raise lost[0]
        for words, answer in zip(steps, answers, strict=True):
            if isinstance(answer, Exception):
                logger.error("the runs of the recurring entry %s could not be written yet: %s", words[1], answer)
        return [answer for answer in answers if not isinstance(answer, Exception)]

    # --- alone: manage.py rqscheduler ------------------------------------------------------------

    def run(self, burst: bool = False, stop: int | None = None) -> None:
        """
        Look at what is due every `interval` seconds, until `stop`, a file descriptor, is readable. `burst`: once.

        A server that is away is waited for.
        """
        self.register_birth()
        away = False
        while True:
            try:
                self.heartbeat()
                self.tick()
                if away:
                    logger.warning("Redis answers again")
                away = False
            except (RedisError, OSError) as error:
                if not away:
                    logger.warning("no answer from Redis: %s", error)
                away = True
            if burst or select.select([] if stop is None else [stop], [], [], self._interval)[0]:
                break
        if not away:
            self.remove_lock()
            self.register_death()

    def acquire_lock(self) -> bool:
        """Take or keep the turn."""
        self._lock_acquired = self._lease.hold()
        return self._lock_acquired

    def remove_lock(self) -> None:
        """Leave the turn to another, if it is ours."""
        self._lease.free()
        self._lock_acquired = False

    # --- rq-scheduler's own ways to add jobs, by the real time -----------------------------------

    def enqueue_at(self, scheduled_time: datetime, func: Any, *args: Any, **kwargs: Any) -> Any:
        """As rq-scheduler's. A naive time is UTC, as there."""
        return super().enqueue_at(_aware(scheduled_time), func, *args, **kwargs)

    def enqueue_in(self, time_delta: timedelta, func: Any, *args: Any, **kwargs: Any) -> Any:
        """As rq-scheduler's."""
        return super().enqueue_at(datetime.now(UTC) + time_delta, func, *args, **kwargs)

    def schedule(self, scheduled_time: datetime, func: Any, *args: Any, **kwargs: Any) -> Any:
        """As rq-scheduler's, but each run of a repeated job has an id of its own. A naive time is UTC, as there."""
        return super().schedule(_aware(scheduled_time), func, *args, **kwargs)

    def cron(  # type: ignore[override]  # what stands further back there is given by name
        self,
        cron_string: str,
        func: Any,
        args: Any = None,
        kwargs: Any = None,
        repeat: int | None = None,
        use_local_timezone: bool = False,
        result_ttl: int = -1,
        **options: Any,
    ) -> Any:
        """As rq-scheduler's, but in the project's time zone with `use_local_timezone`, else in UTC."""
        recurs = serialization.plain_recurrence(cron_string, use_local_timezone)
        first = recurs.next_after(datetime.now(UTC))
        job = self._create_job(func, args, kwargs, commit=False, result_ttl=result_ttl, **options)
        job.meta.update(cron_string=cron_string, use_local_timezone=use_local_timezone)
        if repeat is not None:
            job.meta["repeat"] = int(repeat)
        job.save()
        self.connection.zadd(self.scheduled_jobs_key, {job.id: first.timestamp()})
        return job

    def change_execution_time(self, job: Any, date_time: datetime) -> None:
        """Set the next time of a job or entry. ValueError when it is not scheduled."""
        score = {job.id: _aware(date_time).timestamp()}
        if not self.connection.zadd(self.scheduled_jobs_key, score, xx=True, ch=True) and job not in self:
            raise ValueError("Job not in scheduled jobs queue")

    def get_jobs(
        self, until: Any = None, with_times: bool = False, offset: int | None = None, length: int | None = None
    ) -> Iterator[Any]:
        """As rq-scheduler's; the times are naive and UTC, as there."""
        found: Any = self.connection.zrangebyscore(
            self.scheduled_jobs_key, "-inf", _score(until), start=offset, num=length, withscores=True
        )
        for job_id, score in found:
            record = self.connection.hgetall(keys.job(as_text(job_id)))
            if not record:
                self.cancel(as_text(job_id))
                continue
            job = self.job_class.fetch(as_text(job_id), connection=self.connection)
            at = datetime.fromtimestamp(score, UTC).replace(tzinfo=None)
            yield (job, at) if with_times else job

    def count(self, until: Any = None) -> int:
        """How many jobs and entries are scheduled."""
        return int(self.connection.zcount(self.scheduled_jobs_key, 0, _score(until)))

    def get_jobs_to_queue(self, with_times: bool = False) -> Iterator[Any]:
        """Those that are due."""
        return self.get_jobs(datetime.now(UTC), with_times=with_times)

    def enqueue_job(self, job: Any) -> None:
        """Run a job or entry now, and leave its next time as it is; a job that does not recur is scheduled no more."""
        if serialization.definition(job.id, serialization.read_many(self.connection, [job.id])[job.id]).recurs is None:
            self._run(_OCCUR, [self.scheduled_jobs_key], *self._step_now(job.id))
        else:
            stored.push_run(self.connection, job.id)

    def _step_now(self, job_id: str) -> list[Any]:
        score = repr(self.connection.zscore(self.scheduled_jobs_key, job_id) or 0.0)
        return [keys.RQ, job_id, score, "", iso(time.time()), "1", stored.RUNS_KEPT, "", job_id, score]

    def enqueue_jobs(self) -> int:
        """Write the runs that are due, whoever's turn it is. Returns how many."""
        return self._write_due()


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _score(until: Any) -> Any:
    if until is None:
        return "+inf"
    if isinstance(until, timedelta):
        return time.time() + until.total_seconds()
    return _aware(until).timestamp() if isinstance(until, datetime) else until
