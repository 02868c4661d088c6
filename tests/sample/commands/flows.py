"""Steps of flows."""

from typing import NoReturn

from jobs import Batch, Mandate, Workflow
from tests.sample.commands.batches import Part
from tests.sample.models import Note


class Fetch(Mandate):
    queue = "low"
    retries = 0
    result_ttl = 0

    number: int

    def call(self) -> list[int]:
        if Note.objects.filter(text="bad").exists():
            raise ValueError("as planned")
        return list(range(self.number))


class Add(Mandate):
    queue = "low"
    retries = 0

    numbers: list[int]

    def call(self) -> int:
        return sum(self.numbers)


class Tell(Mandate):
    """Notes what it is given."""

    queue = "low"
    retries = 0

    what: object
    more: object = None

    def call(self) -> None:
        Note.objects.create(text=f"{self.what} {self.more}" if self.more is not None else str(self.what))


class Shout(Mandate):
    queue = "low"
    text: str

    def call(self) -> str:
        return self.text.upper()


class Never(Mandate):
    queue = "low"

    def call(self) -> NoReturn:
        raise ValueError


class Many(Mandate):
    """A step that opens a batch."""

    queue = "low"

    names: list[str]

    def call(self) -> int:
        with Batch("of the step"):
            Part.defer_many([(name,) for name in self.names])
        return len(self.names)


class Inner(Mandate):
    """A step that opens a flow."""

    queue = "low"

    def call(self) -> None:
        with Workflow("inner") as flow:
            fetched = flow.add(Fetch, 4)
            flow.add(Tell, flow.add(Add, fetched.result).result)


class FanIn(Mandate):
    """A step that opens a flow of its own: `wide` steps, then their sum; of a given depth."""

    queue = "low"

    depth: int
    wide: int

    def call(self) -> None:
        with Workflow(f"inner {self.depth}") as flow:
            if self.depth:
                first = [flow.add(FanIn, self.depth - 1, self.wide) for _ in range(self.wide)]
                flow.add(Tell, f"sum {self.depth}", after=first)
            else:
                flow.add(Tell, [flow.add(Add, [1, 2]).result for _ in range(self.wide)])
