"""The jobs of `benchmarks.work` as commands, results not kept unless the name says so."""

from benchmarks import work
from jobs import Mandate


class Noop(Mandate):
    result_ttl = 0

    def call(self) -> None:
        work.noop()


class NoopKept(Mandate):
    def call(self) -> None:
        work.noop()


class Wait50ms(Mandate):
    result_ttl = 0

    def call(self) -> None:
        work.wait_50ms()


class Wait1ms(Mandate):
    result_ttl = 0

    def call(self) -> None:
        work.wait_1ms()


class ReadRow(Mandate):
    result_ttl = 0

    def call(self) -> None:
        work.read_row()


class Answer(Mandate):
    result_ttl = 0
    sent: float

    def call(self) -> None:
        work.answer(self.sent)


class Mixed(Mandate):
    result_ttl = 0
    milliseconds: int
    sent: float

    def call(self) -> None:
        work.mixed(self.milliseconds, self.sent)


class SendReport(Mandate):
    """With arguments, as lists and searches show them; nobody runs it."""

    queue = "mailers"
    reader: int
    subject: str

    def call(self) -> None:
        work.noop()


class ImportRow(Mandate):
    queue = "background"
    row: int
    values: dict[str, str]

    def call(self) -> None:
        work.noop()
