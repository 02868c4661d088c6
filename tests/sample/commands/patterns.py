"""The patterns of docs/howto: tests/jobs/test_patterns.py runs them, and holds the pages to them."""

import random
from datetime import timedelta
from email.utils import parsedate_to_datetime

import httpx
from django.db import transaction
from django.utils import timezone

from jobs import Mandate
from tests.sample.models import Batch, Submission


class FetchExercise(Mandate):
    url: str

    def call(self) -> str:
        try:
            response = httpx.get(self.url, timeout=10)
        except httpx.TransportError:  # no connection, or one that broke
            self.requeue_job(random.uniform(5, 15))  # not all at the same moment again
        if response.status_code == 429:
            self.requeue_job(seconds(response.headers.get("Retry-After", "60")))
        if response.status_code in {502, 503, 504}:
            self.requeue_job(random.uniform(5, 15))
        response.raise_for_status()  # anything else is a failure, and retried as one
        return response.text


def seconds(retry_after: str) -> float:
    """The header may hold seconds, or a date."""
    if retry_after.isdigit():
        return int(retry_after)
    return max(0.0, (parsedate_to_datetime(retry_after) - timezone.now()).total_seconds())


class ProcessBatch(Mandate):
    queue = "background"
    unique_for = timedelta(hours=1)
    batch_id: int
    offset: int = 0
    limit: int = 100

    def call(self) -> None:
        end = self.offset + self.limit
        with transaction.atomic():
            batch = Batch.objects.select_for_update().get(pk=self.batch_id)
            if batch.done == self.offset:  # else an earlier attempt has done this slice, and died after it
                found = Submission.objects.filter(batch=batch).order_by("pk")[self.offset : end]
                for submission in found:
                    process(submission)
                batch.done += len(found)
                batch.save(update_fields=["done"])
            if batch.done == end:  # the slice was full: there may be more
                ProcessBatch.defer(self.batch_id, end, self.limit)


def process(submission: Submission) -> None:
    submission.processed += 1
    submission.save(update_fields=["processed"])
