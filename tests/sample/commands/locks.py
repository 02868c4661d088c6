"""A command that locks two records, one after the other."""

from collections.abc import Callable
from typing import ClassVar

from django.db import connection, transaction

from jobs import Mandate
from tests.sample.models import Note


class LockBoth(Mandate):
    """Between the two, it calls `between`. `setting` is a statement for its session."""

    between: ClassVar[Callable[[], object]] = staticmethod(lambda: None)

    first: Note
    second: Note
    setting: str = ""

    def call(self) -> None:
        with transaction.atomic():
            if self.setting:
                with connection.cursor() as cursor:
                    cursor.execute(self.setting)
            Note.objects.filter(pk=self.first.pk).update(text="first")
            self.between()
            Note.objects.filter(pk=self.second.pk).update(text="second")
