"""
Writes jobs at the commit: those that are deferred one after another in one level of a transaction in one hook. By then
a durable job is a row of the outbox: if Redis does not take it, it is left to the relay.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from django.db import DatabaseError
from redis.exceptions import RedisError

from jobs import conf, runtime
from jobs.broker import keys
from jobs.broker.connections import address, get_connection
from jobs.broker.times import DAY
from jobs.errors import DurabilityError, RedisUnavailableError
from jobs.outbox import rows
from jobs.outbox.rows import NewRow
from jobs.record import packed, registry
from jobs.record.new_jobs import NewJob
from jobs.safe_logging import safe_logger

logger = safe_logger("jobs")

Handles = Sequence[Any]  # of MandateJob, which is above
Write = Callable[[Sequence[NewJob], Handles], None]

AWAY = 2.0  # seconds after a failed write in which this process leaves durable jobs of that server to the relay
FAILURES = (RedisError, RedisUnavailableError)

_failed: dict[int, float] = {}  # by client: monotonic seconds of the last failed write; it saves time-outs, no more
_noted: set[str] = set()  # commands that this process has noted for the doctor


# --- whether a job is durable ----------------------------------------------------------------


def is_durable(command: Any, given: bool | None) -> bool:
    """
    Return whether a job of this command is to be durable. `given`: the option of `defer`, None if it was left out.

    Raises DurabilityError if a transaction of another database than the outbox's is open; where JOBS["DURABLE"] alone
    makes the job durable, that is logged, and the answer is False. ImproperlyConfigured without an outbox.
    """
    if not ((command.durable or conf.get("DURABLE")) if given is None else given):
        return False
    using, own = rows.alias(), rows.connection()
    others = [each.alias for each in runtime.open_transactions() if each is not own]
    if not others:
        return True
    name = registry.name_of(command)
    if given or command.durable:
        why = f"but one of {others[0]!r} is open, too. Defer it after that transaction, or with durable=False."
        if others[0] == using:
            why = "but that of the thread that waits for this coroutine is open. Use `await ...adefer()`."
        raise DurabilityError(
            f"{name} is durable, and would follow this thread's transaction of the outbox's database {using!r} alone; "
            + why
        )
    logger.warning("%s is deferred, but is not durable: a transaction of %r is open", name, others[0])
    _note(command, name)
    return False


def _note(command: Any, name: str) -> None:
    """Tell the doctor, once a process: it reads what other processes did from Redis alone."""
    if name in _noted or runtime.stand_in is not None:
        return
    try:
        with get_connection(command.queue).pipeline(transaction=False) as pipeline:
            pipeline.zadd(keys.OUTBOX_PLAIN, {name: runtime.now()})
            pipeline.expire(keys.OUTBOX_PLAIN, DAY)
            pipeline.execute()
        _noted.add(name)
    except (RedisError, KeyError):
        pass


# --- when it is written ----------------------------------------------------------------------


def on_commit(write: Callable[[], None], opened: Sequence[Any] | None = None) -> None:
    """
    Call `write` once every open transaction has committed, after earlier ones; immediately if none is open. `opened`:
    what `runtime.open_transactions` has just returned.
    """
    if opened is None:
        opened = runtime.open_transactions()
    if not opened:
        write()
        return
    # A transaction that rolls back never calls back, so its alias stays in `awaited` and nothing is written.
    awaited = {connection.alias for connection in opened}

    def committed(alias: str) -> None:
        awaited.discard(alias)
        if not awaited:
            write()

    for connection in opened:
        runtime.on_commit(connection, lambda alias=connection.alias: committed(alias))  # type: ignore[misc]


class Hook:
    """Writes the jobs that were deferred one after another in one level of a transaction, in one go."""

    def __init__(self, write: Write) -> None:
        self.jobs: list[NewJob] = []
        self.handles: list[Any] = []
        self._write = write

    def add(self, jobs: Sequence[NewJob], handles: Handles) -> None:
        """Write these, too."""
        self.jobs += jobs
        self.handles += handles

    def __call__(self) -> None:
        send(self.jobs, self.handles, self._write)


class Mark:
    """Shows whether the level of a transaction in which it was made has been rolled back since."""

    def __init__(self, opened: Sequence[Any]) -> None:
        self._waiting = {connection.alias: connection for connection in opened}
        for connection in opened:
            runtime.on_commit(connection, _Passed(self, connection.alias))

    def committed(self, alias: str) -> None:
        """The transaction of that database has been committed."""
        self._waiting.pop(alias, None)

    @property
    def is_alive(self) -> bool:
        """Whether it was committed, or still may be."""
        return all(
            any(_mark_of(entry) is self for entry in connection.run_on_commit) for connection in self._waiting.values()
        )


class _Passed:
    def __init__(self, mark: Mark, alias: str) -> None:
        self.mark, self._alias = mark, alias

    def __call__(self) -> None:
        self.mark.committed(self._alias)


def _mark_of(entry: Any) -> Mark | None:
    call = getattr(entry[1], "call", entry[1])
    return call.mark if type(call) is _Passed else None


def mark(opened: Sequence[Any]) -> Mark | None:
    """
    Return a mark for the transactions that are open, in the level in which they are; None without one. The last mark of
    the same level will do again.
    """
    if not opened:
        return None
    if len(opened) == 1 and (waiting := opened[0].run_on_commit):
        last = _mark_of(waiting[-1])
        if last is not None and waiting[-1][0] == set(opened[0].savepoint_ids):
            return last
    return Mark(opened)


def at_commit(connection: Any, jobs: Sequence[NewJob], handles: Handles, write: Write) -> None:
    """
    Write jobs when the connection's open transaction is committed: with those of the last hook, if it is ours and of
    the same level, so that the calls of other code keep their place among them.
    """
    waiting = connection.run_on_commit
    if waiting and not _is_tests(connection):
        savepoints, last = waiting[-1][:2]
        last = getattr(last, "call", last)
        if type(last) is Hook and savepoints == set(connection.savepoint_ids):
            last.add(jobs, handles)
            return
    hook = Hook(write)
    hook.add(jobs, handles)
    runtime.on_commit(connection, hook)


def _is_tests(connection: Any) -> bool:
    """Whether a TestCase without the kit has wrapped the test: it may run some of the hooks, by their places."""
    blocks = connection.atomic_blocks
    return runtime.stand_in is None and bool(blocks) and blocks[0]._from_testcase


def begin(jobs: Sequence[NewJob], handles: Handles, opened: Sequence[Any], write: Write) -> list[Any]:
    """
    Insert durable jobs into the outbox, if its transaction is open. Returns its connection then; else the jobs have
    been written, or are in the outbox. Raises DatabaseError.
    """
    connection = rows.connection()
    for handle in handles:
        handle.is_durable = True
    if connection in opened or _is_manual(connection):
        insert(jobs, handles)
        # MySQL does not say whether a transaction without `atomic` is open: the relay sends what it commits.
        return [connection] if connection.in_atomic_block or connection.vendor in ("sqlite", "postgresql") else []
    if rows.are_kept():
        insert(jobs, handles)
        send(jobs, handles, write)
        return []
    if not _is_away(handles):
        try:
            write(jobs, handles)
            return []
        except FAILURES as error:
            _left(handles, error)
    insert(jobs, handles)
    return []


def insert(jobs: Sequence[NewJob], handles: Handles) -> None:
    """Insert the jobs that are not written yet into the outbox. Raises DatabaseError."""
    pairs = [(job, handle) for job, handle in zip(jobs, handles, strict=True) if not handle.is_written]
    named = {each for job, _ in pairs for each in job.prerequisites.jobs if isinstance(each, str)}
    durable = rows.having(named) if named else set()
    rows.insert(
        NewRow(
            job.id,
            address(handle.connection),
            job.queue,
            packed.pack(job, durable.intersection(job.prerequisites.ids()) if durable else ()),
            job.due,
        )
        for job, handle in pairs
    )


def send(jobs: Sequence[NewJob], handles: Handles, write: Write) -> None:
    """
    Write jobs. Durable ones, which have rows, are left to the relay if that fails; for others it raises the errors of
    `write`.
    """
    pairs = [(job, handle) for job, handle in zip(jobs, handles, strict=True) if job.durable]
    if not pairs:
        write(jobs, handles)
        return
    is_all = len(pairs) == len(jobs)
    if is_all and _is_away(handles):
        return
    try:
        write(jobs, handles)
    except FAILURES as error:
        _left(handles, error)
        if any(not job.durable and not handle.is_written for job, handle in zip(jobs, handles, strict=True)):
            raise
    finally:
        _settle([job.id for job, handle in pairs if handle.is_written])


def _settle(ids: Sequence[str]) -> None:
    """Redis has these jobs. What cannot be deleted now is sent again by the relay, to no effect."""
    if not ids or _is_manual(rows.connection()):  # a statement would begin a transaction that may stay open for long
        return
    try:
        rows.sent(ids)
    except DatabaseError as error:
        logger.warning("%d jobs are sent, and the relay deletes their rows: %s", len(ids), error)


def _is_manual(connection: Any) -> bool:
    """Whether a statement begins a transaction by itself: outside `atomic`, with autocommit off."""
    if connection.in_atomic_block:
        return False
    return not (connection.settings_dict["AUTOCOMMIT"] if connection.connection is None else connection.autocommit)


def _is_away(handles: Handles) -> bool:
    if runtime.stand_in is not None:
        return False
    now = time.monotonic()
    clients = {id(handle.connection) for handle in handles}
    return bool(_failed) and all(now - _failed.get(client, -AWAY) < AWAY for client in clients)


def _left(handles: Handles, error: Exception) -> None:
    left = [handle for handle in handles if handle.is_durable and not handle.is_written]
    for client in {id(handle.connection) for handle in left}:
        _failed[client] = time.monotonic()
    if left:
        logger.warning("%d durable jobs are left to the relay: %s", len(left), error)
