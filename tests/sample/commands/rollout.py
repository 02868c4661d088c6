"""Commands of two releases of this app. The newer one brings a member, a field, a model and a command."""

from enum import Enum
from typing import TYPE_CHECKING

from jobs import Mandate
from tests.sample.models import Note
from tests.sample.release import IS_OLD

if TYPE_CHECKING or not IS_OLD:
    from tests.sample.models import Tool


class Colour(Enum):
    RED = "red"
    if not IS_OLD:
        BLUE = "blue"


class Paint(Mandate):
    what: str
    colour: Colour = Colour.RED
    if not IS_OLD:
        coats: int = 1

    def call(self) -> str:
        Note.objects.create(text=self.what)
        return self.colour.value


class PaintAtSecondTime(Mandate):
    what: str

    def call(self) -> None:
        if not self.job.progress.failures:
            raise RuntimeError("not yet")
        Note.objects.create(text=self.what)


if not IS_OLD:

    class Sand(Mandate):
        what: str

        def call(self) -> None:
            Note.objects.create(text=self.what)

    class Lend(Mandate):
        tool: "Tool"

        def call(self) -> None:
            Note.objects.create(text=self.tool.name)
