"""The commands of the original's test examples."""

import random

import httpx

from jobs import Mandate
from tests.sample.models import Note


class ProcessSubmission(Mandate):
    queue = "critical"
    submission_id: int

    def call(self) -> None:
        note = Note.objects.get(pk=self.submission_id)
        note.text = "processed"
        note.save()


class MyCommand(Mandate):
    arg: str = ""

    def call(self) -> None:
        pass


class SyncData(Mandate):
    url: str

    def call(self) -> int:
        try:
            response = httpx.get(self.url)
        except httpx.TransportError:
            self.requeue_job(random.uniform(10, 30))
        if response.status_code == 429:
            self.requeue_job(int(response.headers["Retry-After"]))
        return response.status_code
