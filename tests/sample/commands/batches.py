"""Members and callbacks of batches. Each leaves a note."""

from collections.abc import Callable
from typing import ClassVar

from jobs import Batch, Collapse, Concurrency, Mandate
from tests.sample.models import Note


class Refused(Exception):
    pass


class Part(Mandate):
    """A member: it finishes, or fails while a note of that text is there."""

    queue = "low"
    retries = 0
    discard_on = [Refused]

    name: str
    fails_while: str = ""

    def call(self) -> str:
        if self.fails_while == "refused":
            raise Refused
        if self.fails_while and Note.objects.filter(text=self.fails_while).exists():
            raise ValueError(f"{self.fails_while} is there")
        Note.objects.create(text=self.name)
        return self.name


class OnePart(Mandate):
    """A member of which one at a time is unfinished."""

    queue = "low"
    unique_for = 3600
    result_ttl = 0

    name: str

    def call(self) -> None:
        Note.objects.create(text=self.name)


class SurePart(Mandate):
    """A durable member."""

    queue = "low"
    durable = True

    name: str

    def call(self) -> None:
        Note.objects.create(text=self.name)


class Say(Mandate):
    """A callback: notes its text, and the name of the batch that it is for."""

    text: str

    def call(self) -> None:
        Note.objects.create(text=f"{self.text} {self.batch.name}" if self.batch else self.text)


class AddParts(Mandate):
    """A member that adds others."""

    queue = "low"

    names: list[str]

    def call(self) -> None:
        assert self.batch is not None
        with self.batch.add():
            Part.defer_many([(name,) for name in self.names])


class AddToParent(Mandate):
    """A callback that adds to the batch around its own."""

    names: list[str]

    def call(self) -> None:
        assert self.batch is not None
        parent = self.batch.parent
        assert parent is not None
        with parent.add():
            Part.defer_many([(name,) for name in self.names])


class OpenChild(Mandate):
    """A member that opens a batch of its own."""

    queue = "low"

    name: str
    names: list[str]

    def call(self) -> None:
        with Batch(self.name, on_success=Say.prepare("done")):
            Part.defer_many([(name,) for name in self.names])


class Live(Mandate):
    """A member of which a test decides what it does: see `tests/jobs/batches/test_random_lives.py`."""

    queue = "low"
    retries = 0
    discard_on = [Refused]

    number: int
    acts: ClassVar[dict[int, Callable[["Live"], None]]] = {}

    def call(self) -> None:
        self.acts.get(self.number, _nothing)(self)


class LiveOnce(Live):
    unique_for = 3600
    result_ttl = 0


def _nothing(member: Live) -> None:
    pass


class CollapsingPart(Mandate):
    """A member of which several become one."""

    queue = "low"
    collapse = Collapse(wait=60, key="key")

    key: str
    name: str

    def call(self) -> None:
        Note.objects.create(text=self.name)


class LimitedPart(Mandate):
    """A member of which one at a time runs."""

    queue = "low"
    limits = [Concurrency(1)]

    name: str

    def call(self) -> None:
        Note.objects.create(text=self.name)
