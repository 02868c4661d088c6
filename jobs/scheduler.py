"""
The scheduler: pushes each run of a recurring entry once, however many schedulers are running.

It extends rq-scheduler's and uses its storage: `rq:scheduler:scheduled_jobs` holds entries by their next time, and each
has the record of a job, which its runs copy. All code that reads the time or writes is replaced: it works in one atomic
step, by the server's clock, under a lease that only its owner frees.
"""

import select
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError, RedisError
from rq_scheduler.scheduler import Scheduler as StockScheduler

from jobs.broker import keys
from jobs.broker.connections import Script, run_script
from jobs.broker.lease import Lease
from jobs.broker.times import as_text, iso, moment
from jobs.job import MandateJob
from jobs.recurring import runs as history
from jobs.recurring import serialization
from jobs.recurring.astray import Astray
from jobs.recurring.entry import Entry
from jobs.recurring.lists import ProjectList
from jobs.recurring.store import add, entries, get, histories, lag, page, pause, remove, resume, run_now, sync, upcoming
from jobs.safe_logging import safe_logger

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

logger = safe_logger("jobs.scheduler")

POLL = 1.0  # seconds between checks for due entries
LEASE = 5_000  # milliseconds: how long no process schedules after the one that did has died
SLICE = 500  # due entries read at a time
LONGEST = 0.1  # seconds of consecutive slices, after which a parent serves its children again
MISSED_AFTER = 10.0  # seconds: a run that is later counts as missed
MOST_MADE_UP = 100  # missed runs that catch_up="all" makes up for

_OCCUR, _DUE = Script("occur.lua"), Script("due.lua")


class Scheduler(StockScheduler):
    """
    rq-scheduler's Scheduler, as django-rq's `get_scheduler` makes one, for one server.

    A worker's parent calls `tick`; `manage.py rqscheduler` calls `run`.
    """

    job_class = MandateJob

    def __init__(self, queue_name: str = "default", interval: float = POLL, **kwargs: Any) -> None:
        super().__init__(queue_name, interval=interval, **kwargs)
        self.connection: Redis
        self._lease = Lease(self.scheduler_lock_key, LEASE, self._run)
        self._list = ProjectList(queue_name, self._run)
        self._astray = Astray(self.connection)
        self.follow = self._list.follow

    def _run(self, script: Script, keys: list[str], *arguments: Any) -> Any:
        return run_script(self.connection, script, keys, arguments)

    def end(self) -> None:
        """Free the lease, and publish the project's list no longer."""
        self.remove_lock()
        self._list.end()

    # --- due runs --------------------------------------------------------------------------------

    def tick(self) -> int:
        """Write the due runs, if this process holds the lease. Returns how many. Raises redis-py's errors."""
        if not self._lease.hold():
            return 0
        written = self._write_due()
        self._astray.bring_back()
        return written

    def _write_due(self) -> int:
        written, until = 0, time.monotonic() + LONGEST
        while time.monotonic() < until:
            answer = self._run(_DUE, [self.scheduled_jobs_key], SLICE)
            now, due = float(answer[0]), list(zip(answer[1::2], answer[2::2], strict=True))
            written += self._write_runs(now, due)
            if len(due) < SLICE:
                break
        return written

    def _write_runs(self, now: float, due: list[tuple[bytes, bytes]]) -> int:
        if not due:
            return 0
        records = serialization.read_many(self.connection, [as_text(entry_id) for entry_id, _ in due])
        steps = []
        for entry_id, score in due:
            try:
                entry = serialization.definition(as_text(entry_id), records[as_text(entry_id)])
                steps.append(self._step(as_text(entry_id), as_text(score), now, entry))
            except Exception:  # one entry that cannot be read must not stop the others
                logger.exception("the recurring entry %s cannot be read; it is delayed for a minute", as_text(entry_id))
                self.connection.zadd(self.scheduled_jobs_key, {entry_id: now + 60})
        return sum(len(runs) for runs in self._in_one_go(steps))

    def _step(self, entry_id: str, score: str, now: float, entry: serialization.Definition) -> list[Any]:
        """Return the arguments of `occur.lua` for one entry."""
        first, at = datetime.fromtimestamp(float(score), UTC), datetime.fromtimestamp(now, UTC)
        missed, following = "", ""
        if entry.recurs is None:
            runs = [(entry_id, float(score))]
        else:
            most = MOST_MADE_UP if entry.recurs.catch_up == "all" else 1
            times, next_time = entry.due_by(first, at, most)
            if entry.recurs.catch_up == "none":
                times = [each for each in times if (at - each).total_seconds() <= MISSED_AFTER]
            if not times or times[0] > first:
                missed = serialization.missed_line(first)
            runs = [(entry.run_id(each), each.timestamp()) for each in times]
            following = repr(next_time.timestamp()) if entry.goes_on(len(runs)) else ""
        words: list[Any] = [keys.RQ, entry_id, score, following, iso(now)]
        words += ["1" if entry.recurs is None or entry.recurs.overlap else "0", history.RUNS_KEPT, missed]
        for run in runs:
            words += run
        return words

    def _in_one_go(self, steps: list[list[Any]]) -> list[list[bytes]]:
        """Make all steps in one round trip; each is atomic by itself."""
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
        Write the due runs every `interval` seconds, until `stop`, a file descriptor, is readable. `burst`: once.

        If Redis does not answer, keep trying.
        """
        self.register_birth()
        away = False
        while True:
            try:
                self.heartbeat()
                for sentence in self.follow():
                    logger.error("%s", sentence)
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
            self.end()
            self.register_death()

    def acquire_lock(self) -> bool:
        """Take or renew the lease. Returns whether this process holds it."""
        self._lock_acquired = self._lease.hold()
        return self._lock_acquired

    def remove_lock(self) -> None:
        """Free the lease, if this process holds it."""
        self._lease.free()
        self._lock_acquired = False

    # --- rq-scheduler's methods that add jobs, by the real time ----------------------------------

    def enqueue_at(self, scheduled_time: datetime, func: Any, *args: Any, **kwargs: Any) -> Any:
        """As rq-scheduler's. A naive time is UTC, as there."""
        return super().enqueue_at(_aware(scheduled_time), func, *args, **kwargs)

    def enqueue_in(self, time_delta: timedelta, func: Any, *args: Any, **kwargs: Any) -> Any:
        """As rq-scheduler's."""
        return super().enqueue_at(datetime.now(UTC) + time_delta, func, *args, **kwargs)

    def schedule(self, scheduled_time: datetime, func: Any, *args: Any, **kwargs: Any) -> Any:
        """As rq-scheduler's, but each run of a repeated job has an id of its own. A naive time is UTC, as there."""
        return super().schedule(_aware(scheduled_time), func, *args, **kwargs)

    def cron(  # type: ignore[override]  # rq-scheduler's later parameters are given by name
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
        members: Any = self.connection.zrangebyscore(
            self.scheduled_jobs_key, "-inf", _score(until), start=offset, num=length, withscores=True
        )
        for job_id, score in members:
            record = self.connection.hgetall(keys.job(as_text(job_id)))
            if not record:
                self.cancel(as_text(job_id))
                continue
            job = self.job_class.fetch(as_text(job_id), connection=self.connection)
            at = moment(score).replace(tzinfo=None)
            yield (job, at) if with_times else job

    def count(self, until: Any = None) -> int:
        """Return the number of scheduled jobs and entries."""
        return int(self.connection.zcount(self.scheduled_jobs_key, 0, _score(until)))

    def get_jobs_to_queue(self, with_times: bool = False) -> Iterator[Any]:
        """Return the jobs and entries that are due."""
        return self.get_jobs(datetime.now(UTC), with_times=with_times)

    def enqueue_job(self, job: Any) -> None:
        """Run a job or entry now. An entry keeps its next time; a job that does not recur leaves the schedule."""
        if serialization.definition(job.id, serialization.read_many(self.connection, [job.id])[job.id]).recurs is None:
            self._run(_OCCUR, [self.scheduled_jobs_key], *self._step_now(job.id))
        else:
            history.push_run(self.connection, job.id)

    def _step_now(self, job_id: str) -> list[Any]:
        score = repr(self.connection.zscore(self.scheduled_jobs_key, job_id) or 0.0)
        return [keys.RQ, job_id, score, "", iso(time.time()), "1", history.RUNS_KEPT, "", job_id, score]

    def enqueue_jobs(self) -> int:
        """Write the due runs, whichever process holds the lease. Returns how many."""
        return self._write_due()


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _score(until: Any) -> Any:
    if until is None:
        return "+inf"
    if isinstance(until, timedelta):
        return time.time() + until.total_seconds()
    return _aware(until).timestamp() if isinstance(until, datetime) else until
