"""Durable commands."""

from jobs import Mandate
from tests.sample.models import Note, Run


class KeepRow(Mandate):
    durable = True
    text: str

    def call(self) -> None:
        Note.objects.create(text=self.text)


class KeepOnce(Mandate):
    """At most one with the same text is unfinished."""

    durable = True
    unique_for = 3_600
    result_ttl = 0
    text: str

    def call(self) -> None:
        Note.objects.create(text=self.text)


class KeepTrace(Mandate):
    """Leaves no record when it has finished."""

    durable = True
    result_ttl = 0
    queue = "low"
    text: str

    def call(self) -> None:
        Note.objects.create(text=self.text)


class Enter(Mandate):
    """Enters each of its runs in the books."""

    durable = True
    result_ttl = 0
    number: int

    def call(self) -> None:
        Run.objects.create(number=self.number, ended=True)
