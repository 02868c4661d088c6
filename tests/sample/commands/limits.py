"""Commands that are unique, expire, travel with a context, or wait for what is missing."""

from datetime import timedelta

from django.utils import timezone, translation

from jobs import Mandate
from tests.sample.models import Note


class Once(Mandate):
    unique_for = timedelta(hours=1)
    retries = 0
    number: object
    fails: bool = False

    def call(self) -> int:
        if self.fails:
            raise RuntimeError("as planned")
        return self.number


class OnceForgotten(Once):
    result_ttl = 0


class OncePerNumber(Once):
    @staticmethod
    def unique_key(number: int, fails: bool = False) -> int:
        return number


class Fresh(Mandate):
    expires_in = 60

    def call(self) -> str:
        Note.objects.create(text="begun")
        if Note.objects.count() == 1:
            self.requeue_job(0)
        return "in time"


class TellContext(Mandate):
    def call(self) -> list[object]:
        return [
            translation.get_language(),
            timezone.get_current_timezone_name(),
            self.context.get("request_id"),
            getattr(self.context.get("note"), "text", None),
        ]


class DeferWithContext(Mandate):
    def call(self) -> str:
        if not self.job.progress.requeues:
            self.requeue_job(0)
        return TellContext.defer().id


class Unguarded(Mandate):
    guard_against_deserialization_errors = False
    retries = 1
    note: Note
    other: Note | None = None

    def call(self) -> str:
        return self.note.text


class Guarded(Unguarded):
    guard_against_deserialization_errors = True
