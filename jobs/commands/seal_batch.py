"""Write a batch of durable jobs, and seal it once they are there."""

from typing import Any

from jobs import conf, runtime
from jobs.batches import openings, record
from jobs.broker.connections import get_connection
from jobs.mandate import Mandate

LONGEST_PAUSE = 60.0  # seconds between two looks at jobs that have not arrived


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
            openings.write_later(client, self.batch_id, self.header)
        if not record.is_held(client, self.batch_id, self.holder):
            return  # a person has sealed or cancelled it, or this is done
        withdrawn = record.withdrawn(client, self.batch_id, self.expected)
        if withdrawn is None:
            created = job.created_at if job else None
            age = runtime.now() - created.timestamp() if created else 0.0
            self.requeue_job(min(LONGEST_PAUSE, max(1.0, age / 10)))
        record.seal(client, self.batch_id, self.holder, withdrawn)
