"""Commands that do what a test has in mind for them, attempt by attempt."""

from collections.abc import Callable
from typing import ClassVar

from jobs import Mandate, RetryOn
from tests.sample.commands.trouble import FlakyError, HopelessError
from tests.sample.models import Note


class Act(Mandate):
    """Calls `play` with itself, whatever that does."""

    play: ClassVar[Callable[["Act"], object]]

    retries = 2
    max_requeues = 2
    retry_on = [RetryOn(FlakyError, wait=0, attempts=2)]
    discard_on = [HopelessError]

    number: int = 0

    def call(self) -> object:
        return Act.play(self)


class ActForgotten(Act):
    result_ttl = 0


class ActOnce(Act):
    unique_for = 3_600


class ActSoon(Act):
    expires_in = 3_600


class ActOnNote(Act, kw_only=True):
    note: Note


class ActOnNoteUnguarded(ActOnNote):
    guard_against_deserialization_errors = False
