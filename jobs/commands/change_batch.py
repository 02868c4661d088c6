"""Retry the dead members of a batch, or cancel what has not ended."""

from typing import Literal

from jobs import conf
from jobs.batches.batch import Batch
from jobs.mandate import Mandate


class ChangeBatch(Mandate):
    """The dashboard's actions on a batch with many members. Returns how many jobs were changed."""

    queue = next(iter(conf.queues()))
    timeout = 6 * 3_600
    retries = 3  # what is changed is changed

    batch_id: str
    change: Literal["retry_dead", "cancel"]

    def call(self) -> int:
        batch = Batch.get(self.batch_id)
        return batch.cancel() if self.change == "cancel" else batch.retry_dead()
