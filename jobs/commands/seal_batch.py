"""Write a batch of durable jobs, and seal it once they are there."""

from typing import Any

from jobs import conf
from jobs.batches import record
from jobs.batches.record import NewHeader
from jobs.broker.connections import get_connection
from jobs.errors import BatchEndedError
from jobs.mandate import Mandate
from jobs.safe_logging import safe_logger

logger = safe_logger("jobs")


class SealBatch(Mandate):
    """Write a batch whose jobs the outbox has until Redis has them; it is sealed when the last of them has arrived."""

    queue = next(iter(conf.queues()))
    result_ttl = 0

    batch_id: str
    holder: str
    expected: list[str]
    header: dict[str, Any] | None

    def call(self) -> None:
        job = self.job
        client = get_connection(job.origin if job else self.queue)
        if self.header is not None:
            header = NewHeader(**self.header)
            try:
                record.create(client, self.batch_id, header, later=True)
            except BatchEndedError as error:  # its jobs run all the same
                logger.error("batch %s has no parent: %s", self.batch_id, error)
                record.create(client, self.batch_id, header._replace(parent=""))
        if not record.have_arrived(client, self.batch_id, self.expected):
            self.requeue_job(1)
        record.seal(client, self.batch_id, self.holder)
