"""
Collects the jobs of a `with` and writes them when it ends, as members of a batch: with the surrounding transaction, if
one is open, and nothing if the block raises.
"""

from collections.abc import Collection, Iterator, Sequence
from contextvars import Token
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from asgiref.sync import sync_to_async
from redis import Redis

from jobs import conf, queues, runtime
from jobs.batches import record
from jobs.broker.connections import address, get_connection, same_server
from jobs.errors import BatchError, WaitRefusedError
from jobs.job import MandateJob
from jobs.outbox import hooks, rows
from jobs.record import more
from jobs.record.new_jobs import NewJob
from jobs.runtime import Transactions


class _Taken(NamedTuple):
    """What was deferred in one call, or a block that was in this one; and the level of the transaction it was in."""

    mark: hooks.Mark | None
    jobs: Sequence[NewJob]
    handles: list[MandateJob]
    inner: "Block | None" = None

    @property
    def is_alive(self) -> bool:
        return self.mark is None or self.mark.is_alive


class Opening(Protocol):
    """What surrounds the write of a block's jobs."""

    @property
    def batch_id(self) -> str:
        """The batch's id."""

    @property
    def depth(self) -> int:
        """1 for a batch without a parent."""

    @property
    def holds_first(self) -> bool:
        """Whether `begin` comes before the write of durable jobs, too."""

    def begin(self, client: Redis) -> str:
        """Write the batch, or hold it open. Returns the id of the unique flow that exists already, or ""."""

    def end(self, client: Redis) -> None:
        """All jobs are written."""

    def sealer(self, expected: list[str], queue: str) -> NewJob:
        """Return the job that does both for durable jobs, once the expected members are there."""


class Block:
    """An open block of one batch: it takes jobs from `enter` to `close`, and `finish` writes them."""

    def __init__(
        self, opening: Opening, *, callbacks: Sequence[NewJob] = (), client: Redis | None = None, flush: int = 0
    ) -> None:
        """
        `callbacks` are written before the members; `client`: the batch's server, if it is known; `flush`: write so many
        jobs at once, before the end. Raises BatchError for a callback of another server.
        """
        self.opening, self.client = opening, client
        self._id, self._callbacks, self._flush = opening.batch_id, callbacks, flush
        self._taken: list[_Taken] = []
        self._number, self._is_begun, self._is_open, self._has_raised = 0, False, False, False
        self._is_on_its_way = False  # whether it is being written, or to be written at a commit
        self.stands_for = ""  # the id of the unique flow that exists already: nothing is written
        self.transactions: Transactions | None = None  # at whose commit it is written
        self.is_durable = False  # whether the outbox has it until Redis does
        self.sealer_id = ""  # the job that writes it then
        self._around: Any = None
        self._token: Token[Any]
        for job in callbacks:
            self._check_server(job.queue)

    def enter(self) -> None:
        """Take the jobs that are deferred in the calling context from here on."""
        self._around = record.opened.get()
        self._token = record.opened.set(self)
        self._is_open = True

    @property
    def is_open(self) -> bool:
        """Whether it takes jobs: between `enter` and `close`."""
        return self._is_open

    @property
    def is_written(self) -> bool:
        """Whether the batch is written: its jobs may still be on the way."""
        return self._is_begun

    def refuse_wait(self, what: str) -> None:
        """Raise WaitRefusedError if a wait for what this block writes would never end."""
        if self.stands_for:
            raise WaitRefusedError(f"{what} does not exist: flow {self.stands_for} stands for the one of its block.")
        blocks = [] if self._is_on_its_way else list(self._around_it())
        is_open = any(block.is_open for block in blocks)
        if any(block._has_raised or (block._is_on_its_way and not is_open) for block in blocks):
            raise WaitRefusedError(f"{what} does not exist: its block, or one around it, has raised.")
        if is_open:
            text = f"{what} cannot be waited for: it is written at the end of the block that is still open."
            raise WaitRefusedError(f"{text} Wait after the block.")

    def _around_it(self) -> "Iterator[Block]":
        yield self
        if isinstance(self._around, Block):
            yield from self._around._around_it()

    def close(self) -> None:
        """Take no more jobs."""
        self._is_open = False
        record.opened.reset(self._token)

    def finish(self, *, is_failed: bool) -> None:
        """Write the jobs, unless the block has failed; those of a block in another with that one."""
        self._has_raised = is_failed
        if is_failed:
            return
        if isinstance(self._around, Block):
            self._around.take_in(self)
        else:
            self.write()

    def take(self, jobs: Sequence[NewJob]) -> list[MandateJob]:
        """Keep new jobs until the block ends. Returns their handles. Raises BatchError for a job of another server."""
        for queue in {job.queue for job in jobs}:
            self._check_server(queue)
        opened = runtime.open_transactions()
        if self._flush and opened:
            raise BatchError(
                f"Batch {self._id} was opened with flush={self._flush}, and a transaction of {opened[0].alias!r} is "
                "open: its jobs would be written before the commit. Defer them after it, or leave out flush."
            )
        members = [job._replace(batch=self._id) for job in jobs]
        handles = queues.handles_of(members)
        if opened:
            transactions = Transactions.of(opened)
            for handle in handles:
                handle.transactions = transactions
        for handle in handles:
            handle.block = self
        self._taken.append(_Taken(hooks.mark(opened), members, handles))
        self._number += len(members)
        if self._flush and self._number >= self._flush:
            self._write_some()
        return handles

    def take_in(self, inner: "Block") -> None:
        """Write a block that has ended in this one with it."""
        if inner.client is not None:
            self._check_client(inner.client)
        self._taken.append(_Taken(hooks.mark(runtime.open_transactions()), (), [], inner))
        self._number += 1

    def _check_server(self, queue: str) -> None:
        self._check_client(get_connection(queue))

    def _check_client(self, client: Redis) -> None:
        if self.client is None:
            self.client = client
        elif not same_server(client, self.client):
            raise BatchError(
                f"Batch {self._id} is on the Redis {address(self.client)}, and this job's queue on {address(client)}. "
                "All jobs and callbacks of a batch need queues of one server: make a batch for each."
            )

    # --- writing ---------------------------------------------------------------------------------

    def write(self) -> None:
        """
        Write all that is left: at the commit of the open transactions, if there are any. Durable jobs are in the outbox
        before. If one is durable, all become durable.
        """
        blocks = list(self._blocks())
        self._prepare(blocks)
        jobs = [job for block in blocks for job in block._jobs()]
        is_durable, opened = any(job.durable for job in jobs), runtime.open_transactions()
        for block in blocks:
            block.is_durable, block.transactions = is_durable, Transactions.of(opened) if opened else None
        if is_durable:
            self._write_durable(blocks, jobs)
        else:
            hooks.on_commit(lambda: _write_now(blocks))

    def _write_durable(self, blocks: "Sequence[Block]", jobs: Sequence[NewJob]) -> None:
        handles = [handle for block in blocks for handle in block._handles()]
        for block in blocks:
            if block.opening.holds_first:
                hooks.on_commit(block._begin)
        sealers = [block.opening.sealer(block._expected(), jobs[0].queue) for block in reversed(blocks)]
        for block, sealer in zip(reversed(blocks), sealers, strict=True):
            block.sealer_id = sealer.id
        members = {job.id for job in jobs}
        all_jobs = [_durable(job, members) for job in [*jobs, *sealers]]
        queues.push_with_handles(all_jobs, [*handles, *queues.handles_of(sealers)])

    def _write_some(self) -> None:
        """Write what has been taken so far; the block goes on."""
        blocks = list(self._blocks())
        self._prepare(blocks)
        for block in blocks:
            block._begin()
        jobs = [job for block in blocks for job in block._jobs()]
        queues.write(jobs, [handle for block in blocks for handle in block._handles()])
        for block in blocks[1:]:
            block.opening.end(block._server())
        self._taken.clear()
        self._callbacks, self._number = (), 0

    def _blocks(self) -> "Iterator[Block]":
        """Yield this block and those in it, each before those in it."""
        yield self
        for taken in self._taken:
            if taken.inner is not None and taken.is_alive:
                yield from taken.inner._blocks()

    def _prepare(self, blocks: "Sequence[Block]") -> None:
        clients = [block.client for block in blocks if block.client is not None]
        client = clients[0] if clients else get_connection(next(iter(conf.queues())))
        for block in reversed(blocks):  # the inner ones first, as one that its outer one leaves behind is never written
            block.client, block._is_on_its_way = block.client or client, True

    def _begin(self) -> None:
        if isinstance(self._around, Block):  # with `flush` this one is written before that one
            self._around.client = self._around.client or self.client
            self._around._begin()
        if not self._is_begun:
            self.stands_for = self.opening.begin(self._server())
            self._is_begun = True

    def _server(self) -> Redis:
        assert self.client is not None  # noqa: S101
        return self.client

    def _jobs(self) -> list[NewJob]:
        return [*self._callbacks, *(job for taken in self._taken if taken.is_alive for job in taken.jobs)]

    def _handles(self) -> list[MandateJob]:
        of_members = (handle for taken in self._taken if taken.is_alive for handle in taken.handles)
        return [*queues.handles_of(self._callbacks), *of_members]

    def _expected(self) -> list[str]:
        alive = [taken for taken in self._taken if taken.is_alive]
        children = [record.CHILD + taken.inner._id for taken in alive if taken.inner is not None]
        return [*children, *(job.id for taken in alive for job in taken.jobs)]


class Members:
    """A `with` whose jobs become members of a batch."""

    def __init__(self, block: Block) -> None:
        self._block = block

    def __enter__(self) -> Self:
        self._block.enter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._block.close()
        self._block.finish(is_failed=kind is not None)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: Any, tb: Any) -> None:
        self._block.close()
        await sync_to_async(self._block.finish)(is_failed=kind is not None)


def _write_now(blocks: Sequence[Block]) -> None:
    for block in blocks:
        block._begin()
    blocks = [block for block in blocks if not block.stands_for]
    jobs = [job for block in blocks for job in block._jobs()]
    queues.write(jobs, [handle for block in blocks for handle in block._handles()])
    for block in reversed(blocks):
        block.opening.end(block._server())
        block._taken.clear()  # a handle refers to its block


def _durable(job: NewJob, members: Collection[str]) -> NewJob:
    """Make a job durable, if it is not. What it waits for among the members is durable, too, and events of batches."""
    first = job.prerequisites
    waits = tuple(each for each in first.ids() if each in members or each.startswith(record.CHILD))
    job = job._replace(prerequisites=first._replace(durable=(*first.durable, *waits))) if waits else job
    if job.durable:
        return job
    fields = more.added((*job.fields, "durable", "kept"), more.FEW) if rows.are_kept() else (*job.fields, "durable", 1)
    return job._replace(durable=True, fields=fields)
