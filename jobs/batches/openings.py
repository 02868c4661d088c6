"""What is written before and after the jobs of a block: a new batch, or a hold on one that exists."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from redis import Redis

from jobs.batches import record
from jobs.batches.record import NewHeader
from jobs.client.new_job import new_job
from jobs.errors import BatchEndedError, BatchError
from jobs.record import registry
from jobs.record.new_jobs import NewJob
from jobs.safe_logging import safe_logger

logger = safe_logger("jobs")

SEAL = "jobs.SealBatch"  # the command that writes a batch of durable jobs


def checked(name: Any, tags: Any) -> tuple[str, tuple[str, ...]]:
    """Return the name and the tags of a new batch. Raises BatchError for what is no text, or no list of texts."""
    if not isinstance(name, str):
        raise BatchError(f"The name {name!r} of a batch is impossible. Give a text.")
    listed = () if isinstance(tags, str) or not isinstance(tags, Iterable) else tuple(tags)
    if (tags and not listed) or not all(isinstance(each, str) for each in listed):
        raise BatchError(f"tags={tags!r} is impossible. Give a list of texts.")
    return name, listed


class NewBatch(NamedTuple):
    """A batch that is written with its jobs."""

    batch_id: str
    header: NewHeader
    holds_first: bool = False

    @property
    def depth(self) -> int:
        """1 for a batch without a parent."""
        return self.header.depth

    def begin(self, client: Redis) -> str:
        """Write the batch. Returns the answer of `record.create`, and raises its errors."""
        return record.create(client, self.batch_id, self.header)

    def end(self, client: Redis) -> None:
        """All jobs are written."""
        record.seal(client, self.batch_id)

    def sealer(self, expected: list[str], queue: str) -> NewJob:
        """Return the job that writes the batch, and seals it once the expected members are there."""
        return _sealer(queue, self.batch_id, record.CREATOR, expected, self.header._asdict())


class Addition(NamedTuple):
    """Jobs that are added to a batch. `holder`: the member that adds them, or an id of its own."""

    batch_id: str
    holder: str
    depth: int
    holds_first: bool = True

    def begin(self, client: Redis) -> str:
        """Hold the batch open. Raises BatchEndedError, BatchNotFoundError, RedisUnavailableError."""
        record.hold(client, self.batch_id, self.holder)
        return ""

    def end(self, client: Redis) -> None:
        """Hold it open no longer."""
        record.seal(client, self.batch_id, self.holder)

    def sealer(self, expected: list[str], queue: str) -> NewJob:
        """Return the job that ends the hold once the expected members are there."""
        return _sealer(queue, self.batch_id, self.holder, expected, None)


def write_later(client: Redis, batch_id: str, header: dict[str, Any]) -> None:
    """Write a batch of durable jobs; without its parent, if that has ended. Raises RedisUnavailableError."""
    new = NewHeader(**header)
    try:
        record.create(client, batch_id, new, later=True)
    except BatchEndedError as error:  # its jobs run all the same
        logger.error("batch %s has no parent: %s", batch_id, error)
        record.create(client, batch_id, new._replace(parent=""))


def _sealer(queue: str, batch_id: str, holder: str, expected: list[str], header: dict[str, Any] | None) -> NewJob:
    command: Any = registry.get(SEAL)
    return new_job(command, (batch_id, holder, expected, header), {}, queue=queue)
