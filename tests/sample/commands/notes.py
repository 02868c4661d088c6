"""Commands that leave a trace in the database."""

from jobs import Mandate
from tests.sample.models import Note


class WriteNote(Mandate):
    text: str

    def call(self) -> int:
        return Note.objects.create(text=self.text).pk


class ShoutNote(Mandate):
    queue = "critical"
    note: Note
    times: int = 1

    def call(self) -> str:
        self.note.text = self.note.text.upper() + "!" * self.times
        self.note.save()
        return self.note.text


class WriteNoteSlowly(Mandate):
    queue = "low"
    timeout = 30
    result_ttl = 0
    text: str

    async def call(self) -> str:
        await Note.objects.acreate(text=self.text)
        return self.text


class KeepSecret(Mandate):
    log_arguments = False
    secret: str

    def call(self) -> None:
        pass


class Fail(Mandate):
    retries = 0
    message: str = "no luck"

    def call(self) -> None:
        raise RuntimeError(self.message)
