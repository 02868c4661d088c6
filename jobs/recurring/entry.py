"""
Recurring entries, and when they are due. Pure: storage and pushing are the scheduler's.

A cron expression is evaluated on the wall clock of the entry's zone. Where that clock jumps, each time of day still
occurs once: a time that is skipped occurs as much later as the clock jumps, a time that is repeated counts the first
time. An hourly entry (its hour field starts with `*`) still runs every hour.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterBadDateError, croniter
from django.conf import settings
from django.utils.module_loading import import_string

from jobs import conf, queues
from jobs.broker.times import sendable
from jobs.client import new_job, options
from jobs.errors import JobsError, ScheduleError
from jobs.record import registry
from jobs.record.new_jobs import NewJob
from jobs.retries import seconds_of

CatchUp = Literal["latest", "none", "all"]

CATCH_UPS = ("latest", "none", "all")
MARGIN = timedelta(hours=3)  # no clock is set back further
ALIASES = {"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"}


@dataclass(frozen=True)
class Entry:
    """
    A command that recurs: `Entry("clean-up", "users.CleanUpSessions", cron="30 2 * * *", timezone="Europe/Berlin")`.

    `name` is the entry's own; `command` is a command's name or class, with `args` and `kwargs`. Either `cron`, five
    fields or an alias such as `@hourly`, in `timezone` (an IANA name; default: the project's); or `every`, a timedelta
    or seconds. `queue` replaces the command's own; `enabled=False` keeps the entry from running. `catch_up` sets which
    runs are made up for after a time without a scheduler: the "latest", "none", or "all" (100 at most).
    `overlap=False` skips a run while another one is queued or running, by hand, too; one that waits for its retry does
    not count.
    """

    name: str
    command: "str | type"
    _: KW_ONLY
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    cron: str | None = None
    every: timedelta | float | None = None
    timezone: str | None = None
    queue: str | None = None
    enabled: bool = True
    catch_up: CatchUp = "latest"
    overlap: bool = True

    # --- problems --------------------------------------------------------------------------------

    def problems(self) -> Iterator[str]:
        """Yield the problems of the entry, each as a sentence. Raises nothing, whatever the entry holds."""
        for look in (self._problems_of_its_name, self._problems_of_the_job, self._problems_of_its_times):
            try:
                yield from look()
            except Exception as error:  # one entry must not keep the others from being looked at
                yield f"It cannot be understood: {type(error).__qualname__}: {error}."

    def _problems_of_its_name(self) -> Iterator[str]:
        if not isinstance(self.name, str):
            yield f"The name {self.name!r} is not a text."
        elif not any(map(str.isalnum, self.name)):
            yield f"The name {self.name!r} has no letter or digit."
        elif self.name != sendable(self.name):
            yield f"The name {self.name!r} has a lone surrogate, which no key can hold."
        if self.catch_up not in CATCH_UPS:
            yield f"catch_up={self.catch_up!r} is unknown. Give one of: {', '.join(CATCH_UPS)}."

    def _problems_of_the_job(self) -> Iterator[str]:
        try:
            if not hasattr(self.command_class, "has_call"):
                yield f"command={self.command!r} is no command. Give a command's name, or its class."
                return
            self.job(datetime.now(UTC))
        except (JobsError, TypeError) as error:
            yield str(error)

    def _problems_of_its_times(self) -> Iterator[str]:
        if (self.cron is None) == (self.every is None):
            yield "It needs either cron= or every=."
        if _is_random(self.cron):
            yield f"cron={self.cron!r} has random times (R), which each process would draw anew. Give fixed ones."
        elif self.cron is not None and not _is_cron(self.cron):
            aliases = ", ".join(sorted(ALIASES))
            yield f"cron={self.cron!r} is not a cron expression. Give five fields, or one of: {aliases}."
        if self.every is not None and not seconds_of(self.every) >= 1:
            yield f"every={self.every!r} is impossible. Give a timedelta or seconds, 1 or more."
        if self.timezone is not None and not _is_zone(self.timezone):
            yield f"timezone={self.timezone!r} is unknown. Give an IANA name, as 'Europe/Berlin'."
        elif _is_cron(self.cron):
            try:
                self.next_after(datetime.now(UTC))
            except ScheduleError as error:
                yield str(error)

    def check(self) -> None:
        """Raise ScheduleError, naming the entry and its problems, if it has any."""
        if problems := list(self.problems()):
            raise ScheduleError(f"The entry {self.name!r} cannot work. {' '.join(problems)}")

    # --- command and runs ------------------------------------------------------------------------

    @property
    def slug(self) -> str:
        """
        The form of its name in ids and keys: letters, digits, `_` and `-`. Of `clean up` it is `clean-up`; a name of
        anything but such words with single spaces between them gets a digest, so that no two names have the same slug.
        """
        name, plain = str(self.name), self.slug_of_release_0_1
        if name == plain.replace("-", " "):
            return plain
        digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:10]
        return f"{plain}-{digest}" if plain else digest

    @property
    def slug_of_release_0_1(self) -> str:
        """The slug that release 0.1 gave it; two names could have the same one."""
        return re.sub(r"[^A-Za-z0-9_-]+", "-", str(self.name)).strip("-")

    @property
    def command_class(self) -> Any:
        """The class of the command. UnknownCommandError for an unknown name."""
        return registry.get(self.command) if isinstance(self.command, str) else self.command

    @property
    def queue_name(self) -> str:
        """The queue of its jobs. UnknownQueueError for one that is not listed."""
        return queues.check(self.queue) if self.queue else queues.of_class(self.command_class.queue)

    def job(self, at: datetime) -> NewJob:
        """Return the job of its run at that time, whose id is `run_id(at)`."""
        new = new_job.new_job(self.command_class, self.args, self.kwargs, queue=self.queue_name)
        return new._replace(id=self.run_id(at))

    def run_id(self, at: datetime) -> str:
        """Return the id of its run at that time: the same in every process, so that a run can exist only once."""
        return f"{self.slug}-{at.astimezone(UTC):%Y%m%dT%H%M%S}Z"

    # --- its times -------------------------------------------------------------------------------

    @cached_property
    def zone(self) -> ZoneInfo:
        """The zone of its wall clock."""
        return ZoneInfo(self.timezone or settings.TIME_ZONE)

    def next_after(self, time: datetime) -> datetime:
        """
        Return the first of its times after this one (aware). An `every` counts from there. ScheduleError if there is
        none.
        """
        if self.every is not None:
            return time + timedelta(seconds=seconds_of(self.every))
        wall = self._wall(time)
        walls: Any = croniter(self.cron or "", wall, ret_type=datetime)
        try:
            first = walls.get_next()
        except CroniterBadDateError:
            raise ScheduleError(f"cron={self.cron!r} never comes: there is no such date.") from None
        if self._offset(wall - MARGIN) == self._offset(first + MARGIN):  # the usual day: no jump is near
            return first.replace(tzinfo=self.zone).astimezone(UTC)  # type: ignore[no-any-return]
        return self._next_near_a_jump(time, wall)

    def _offset(self, wall: datetime) -> timedelta | None:
        return wall.replace(tzinfo=self.zone).utcoffset()

    def _next_near_a_jump(self, time: datetime, wall: datetime) -> datetime:
        walls: Any = croniter(self.cron or "", wall - MARGIN, ret_type=datetime)
        best: datetime | None = None
        while True:
            each = walls.get_next()
            if best is not None and each - MARGIN > self._wall(best):
                return best
            for instant in self._instants(each):
                if instant > time and (best is None or instant < best):
                    best = instant

    def _instants(self, wall: datetime) -> Iterator[datetime]:
        first = wall.replace(tzinfo=self.zone, fold=0).astimezone(UTC)
        yield first
        second = wall.replace(tzinfo=self.zone, fold=1).astimezone(UTC)
        comes_twice = second > first  # for a time that is skipped, fold=1 is the earlier one
        if comes_twice and self._is_hourly:
            yield second

    @property
    def _is_hourly(self) -> bool:
        minute, _, rest = (self.cron or "").partition(" ")
        return minute == "@hourly" or rest.lstrip().startswith("*")

    def due_by(self, first: datetime, now: datetime, most: int) -> tuple[list[datetime], datetime]:
        """Return its times from `first`, when it is due, to `now`, the latest `most`; and the next time after `now`."""
        if self.every is not None:
            step = timedelta(seconds=seconds_of(self.every))
            passed = (now - first) // step
            last = first + passed * step
            return [last - n * step for n in reversed(range(min(most, passed + 1)))], last + step
        times = {first} if first <= now else set()  # even if the expression lacks it: a person may have set it
        walls: Any = croniter(self.cron or "", self._wall(now) + MARGIN, ret_type=datetime)
        earliest = self._wall(first) - MARGIN
        while (each := walls.get_prev()) >= earliest:
            times.update(instant for instant in self._instants(each) if first <= instant <= now)
            if len(times) >= most:
                earliest = max(earliest, self._wall(sorted(times)[-most]) - MARGIN)
        return sorted(times)[-most:], self.next_after(now)

    def _wall(self, time: datetime) -> datetime:
        return time.astimezone(self.zone).replace(tzinfo=None)


def _is_zone(name: object) -> bool:
    try:
        return isinstance(name, str) and bool(name) and ZoneInfo(name) is not None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False


def _is_cron(expression: object) -> bool:
    if not isinstance(expression, str):
        return False
    if expression.startswith("@"):
        return expression in ALIASES
    return len(expression.split()) == 5 and not _is_random(expression) and bool(croniter.is_valid(expression))


def _is_random(expression: object) -> bool:
    """Return whether a field, or an item of one, is croniter's `R`, also with a range or a step: `R(0-29)`, `R/5`."""
    return isinstance(expression, str) and re.search(r"(?i)(?<![a-z])r(?![a-z])", expression) is not None


COLLECTOR = "jobs.CollectMetrics"  # which the workers' parents have replaced
CLEANER = "jobs.CleanUpReceipts"


def listed() -> list[Entry]:
    """
    Return the project's entries, the list whose dotted path is JOBS["SCHEDULE"], and the package's own.

    Raises ScheduleError if there is no such list, or an item is not an Entry.
    """
    entries = _of_project(conf.get("SCHEDULE"))
    is_needed = conf.get("CLEAN_UP") and any(map(options.leaves_rows, registry.all_commands().values()))
    if is_needed and not any(entry.command in (CLEANER, registry.get(CLEANER)) for entry in entries):
        entries.append(Entry("clean up receipts", CLEANER, cron="37 * * * *"))
    return entries


def _of_project(path: str | None) -> list[Entry]:
    if path is None:
        return []
    try:
        entries = import_string(path)
    except Exception as error:  # whatever the module raises
        raise ScheduleError(f'JOBS["SCHEDULE"] = {path!r} cannot be imported: {error}.') from error
    if not isinstance(entries, Sequence) or not all(isinstance(entry, Entry) for entry in entries):
        raise ScheduleError(f'JOBS["SCHEDULE"] = {path!r} must be a list of jobs.scheduler.Entry.')
    return list(entries)
