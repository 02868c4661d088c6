"""A batch: written with the jobs of its block, then read, extended, cancelled or retried by its id."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Self

from asgiref.sync import sync_to_async
from redis import Redis

from jobs import control
from jobs.batches import members, openings, record, waiting
from jobs.batches.block import Block, Members
from jobs.batches.openings import Addition, NewBatch
from jobs.batches.record import EVENTS, Header, MemberState, NewHeader, Prepared
from jobs.broker import keys
from jobs.broker.connections import reaching, servers
from jobs.broker.ids import new_id
from jobs.broker.times import as_text
from jobs.errors import BatchEndedError, BatchError
from jobs.job import MandateJob
from jobs.waits.waiting import Timeout

CURRENT: Any = object()  # parent=CURRENT: the batch in whose block, or in whose member, a new one is opened


class _Around(NamedTuple):
    """The batch that stands around a new one."""

    batch_id: str = ""
    depth: int = 0
    client: Redis | None = None
    step: str = ""  # the job that opens it


class Batch:
    """
    Jobs that belong together. Every job that is deferred in the block is a member:

        with Batch("import", on_success=Publish.prepare(7)) as batch:
            ImportLesson.defer_many(rows)

    The batch is *complete* when its last member has ended in any way, and *successful* when every member has finished.
    Each callback is enqueued once.
    """

    _is_flow, _lock = False, ""

    def __init__(
        self,
        name: str = "",
        *,
        on_success: Prepared | None = None,
        on_complete: Prepared | None = None,
        on_dead: Prepared | None = None,
        tags: Iterable[str] = (),
        parent: "Batch | None" = CURRENT,
        flush: int = 0,
    ) -> None:
        """
        `on_success`, `on_complete` and `on_dead` (the first death of a member): jobs as `Command.prepare` returns them.
        `tags`: texts that the pages show. `parent`: the batch around it, None for none; by default the one in whose
        block, or in whose member, this one is opened. `flush`: write so many jobs at once, before the end of the block.

        Raises BatchError for a callback that is not prepared, an impossible `flush`, or a name that is not a text.
        """
        self._id = new_id()
        self._callbacks = dict(zip(EVENTS, (on_success, on_complete, on_dead), strict=True))
        for event, given in self._callbacks.items():
            if given is not None and not isinstance(given, Prepared):
                raise BatchError(
                    f"on_{event}={given!r} is impossible. Give a job that is not deferred yet: Command.prepare(...)."
                )
        if type(flush) is not int or flush < 0:
            raise BatchError(f"flush={flush!r} is impossible. Give a number of jobs, such as 1000.")
        (self._name, self._tags), self._parent, self._flush = openings.checked(name, tags), parent, flush
        self._client: Redis | None = None
        self._block: Block | None = None
        self._job_id = ""

    @classmethod
    def get(cls, batch_id: str) -> Self:
        """Return the batch of that id. Raises BatchNotFoundError, RedisUnavailableError."""
        for client in servers():
            if record.read(client, batch_id) is not None:
                return cls.handle(batch_id, client)
        raise record.not_found(batch_id)

    @classmethod
    def handle(cls, batch_id: str, client: Redis, job_id: str = "") -> Self:
        """Return a handle to a batch on that server, without a call to it. `job_id`: the member that asks, if any."""
        batch = cls()
        batch._id, batch._client, batch._job_id = batch_id, client, job_id
        return batch

    @property
    def id(self) -> str:
        """Its id."""
        return (self._block and self._block.stands_for) or self._id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    # --- the block -------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """
        Begin the block. Raises BatchError if it is too deep in others, RedisUnavailableError.

        At the end of the block, or with the transaction around it, the batch is written: RedisUnavailableError;
        BatchEndedError if the batch around it has ended.
        """
        self._new_block().enter()
        return self

    def __exit__(self, *error: Any) -> None:
        Members(self._opened()).__exit__(*error)

    async def __aenter__(self) -> Self:
        (await sync_to_async(self._new_block)()).enter()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await Members(self._opened()).__aexit__(*error)

    def _opened(self) -> Block:
        assert self._block is not None  # noqa: S101
        return self._block

    def _new_block(self) -> Block:
        if self._client is not None or self._block is not None:
            raise BatchError(f"Batch {self.id} has been opened before. Add jobs in `with batch.add():`.")
        around = self._find_around()
        if around.depth == record.DEEPEST:
            raise BatchError(
                f"Batch {self._name!r} would be the {around.depth + 1}th in one another, and {record.DEEPEST} are the "
                "most. Open it with parent=None."
            )
        header = NewHeader(self._name, self._tags, around.depth + 1, around.batch_id, around.step)
        opening = NewBatch(self.id, header._replace(is_flow=self._is_flow, lock=self._lock))
        callbacks = [
            record.callback_of(self.id, event, prepared, around.batch_id)
            for event, prepared in self._callbacks.items()
            if prepared is not None
        ]
        self._block = Block(opening, callbacks=callbacks, client=around.client, flush=self._flush)
        return self._block

    def _find_around(self) -> _Around:
        if self._parent is None:
            return _Around()
        if self._parent is not CURRENT:
            return _around(self._parent)
        if isinstance(block := record.opened.get(), Block):
            return _Around(block.opening.batch_id, block.opening.depth, block.client)
        batch_id, job_id = record.member_of.get()
        if batch_id:
            return _around(Batch.get(batch_id))._replace(step=job_id)
        return _Around()

    def add(self) -> Members:
        """
        Return a block whose jobs are added to this batch: `with self.batch.add():` in a member, or from anywhere while
        the batch has not ended.

        Raises BatchEndedError, here or where the jobs are written, BatchNotFoundError, RedisUnavailableError.
        """
        header, _, _ = self._read()
        if header.success or header.is_cancelled or (header.complete and self.has_ended):
            raise BatchEndedError(f"Batch {self.id} has ended. Add the jobs to a new batch.")
        return Members(Block(Addition(self.id, self._job_id or new_id(), header.depth), client=self._server()))

    # --- reading ---------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Its name."""
        return self._read()[0].name

    @property
    def tags(self) -> tuple[str, ...]:
        """Its tags."""
        return self._read()[0].tags

    @property
    def parent(self) -> "Batch | None":
        """The batch around it; None without one."""
        parent = self._read()[0].parent
        return Batch.handle(parent, self._server(), self._job_id) if parent else None

    @property
    def counts(self) -> dict[str, int]:
        """How many members are in each of the states pending, finished, dead, discarded, cancelled, deleted."""
        return self._read()[1]

    @property
    def total(self) -> int:
        """How many members it has. A child counts as one, and so does each callback of a child that was enqueued."""
        return sum(self.counts.values())

    @property
    def progress(self) -> float:
        """The part of its members that have ended, from 0 to 1; 1 for an empty batch."""
        counts = self.counts
        total = sum(counts.values())
        return (total - counts[MemberState.PENDING]) / total if total else 1.0

    @property
    def has_ended(self) -> bool:
        """Whether it is complete: all of its jobs are written, and each has ended."""
        _, counts, is_held = self._read()
        return not is_held and not counts[MemberState.PENDING]

    @property
    def has_succeeded(self) -> bool:
        """Whether every member has finished."""
        return bool(self._read()[0].success)

    def errors(self) -> list[members.ErrorCount]:
        """Return the errors of its dead members, the most frequent first; of members.SAMPLE of them at most."""
        return members.errors(self._server(), self.id)

    def jobs(self, state: str | None = None) -> Iterator[MandateJob]:
        """
        Yield handles to its members, in no order; `state`: only those in that state. Jobs that are forgotten by now
        are among them, children are not. Raises ValueError for a state that members do not have.
        """
        for each in [MemberState(state)] if state else MemberState:
            for some in members.slices(members.job_ids(self._server(), self.id, each)):
                yield from members.handles(self._server(), some)

    def children(self) -> list["Batch"]:
        """Return the batches in it."""
        with reaching(self._server()):
            ids: Any = self._server().smembers(keys.batch_children(self.id))
        return [Batch.handle(as_text(each), self._server()) for each in ids]

    def wait(self, timeout: Timeout = None) -> bool:
        """
        Wait until the batch has ended, and return whether every member has finished. `timeout`: seconds or a timedelta
        at most; None: as long as it takes. The script that ends the batch wakes the wait; nothing polls.

        Raises WaitTimeoutError if it has not ended in time; WaitRefusedError where it could never end: in its block, in
        the transaction that writes it, in a member; BatchNotFoundError; RedisUnavailableError; ValueError for an
        impossible `timeout`.
        """
        return waiting.wait(self.id, self._block, self._known_client(), timeout)

    async def await_end(self, timeout: Timeout = None) -> bool:
        """`wait` for async code."""
        return await waiting.await_end(self.id, self._block, self._known_client(), timeout)

    # --- changing --------------------------------------------------------------------------------

    def cancel(self) -> int:
        """
        Cancel its members and those of its children, running ones too; nothing more can be added. Callbacks are not
        cancelled: `on_complete` is enqueued. Returns how many jobs were cancelled. Raises BatchNotFoundError.
        """
        record.cancel(self._server(), self.id)
        number = sum(child.cancel() for child in self.children())
        pending = members.job_ids(self._server(), self.id, MemberState.PENDING)
        ids = [each for each in pending if not record.is_callback(each)]
        for some in members.slices(members.as_they_stand(self._server(), ids)):
            number += control.change_all("cancel", list(members.handles(self._server(), some))).count(None)
        record.sweep(self._server(), self.id, members.SLICE)  # those that had ended otherwise
        return number

    def retry_dead(self) -> int:
        """Retry its dead members and those of its children. Returns how many were retried."""
        number = sum(child.retry_dead() for child in self.children())
        for some in members.slices(list(members.job_ids(self._server(), self.id, MemberState.DEAD))):
            number += control.change_all("retry", list(members.handles(self._server(), some))).count(None)
        return number

    def seal(self) -> None:
        """Hold it open no longer for a creator that died before all of its jobs were written. BatchNotFoundError."""
        for holder in self._server().smembers(keys.batch_holds(self.id)):
            record.seal(self._server(), self.id, as_text(holder))

    # --- the server ------------------------------------------------------------------------------

    def _server(self) -> Redis:
        if (client := self._known_client()) is None:
            raise self._not_found()
        return client

    def _known_client(self) -> Redis | None:
        return self._client if self._block is None else self._block.client

    def _read(self) -> tuple[Header, dict[str, int], bool]:
        ((header, counts, is_held),) = record.read_with_counts(self._server(), [self.id])
        if header is None:
            raise self._not_found()
        return header, counts, is_held

    def _not_found(self) -> Exception:
        return record.not_found(self.id, is_awaited=self._block is not None and not self._block.is_written)


def _around(batch: Batch) -> _Around:
    return _Around(batch.id, batch._read()[0].depth, batch._server())
