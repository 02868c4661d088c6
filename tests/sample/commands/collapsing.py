"""Commands whose jobs collapse."""

from datetime import timedelta
from typing import Any

from django.utils import translation

from jobs import Collapse, Concurrency, Mandate
from tests.sample.models import Note


class Save(Mandate):
    collapse = Collapse(wait=60, key="user", at_most=600)
    retries = 3
    user: Any
    text: str
    fails: bool = False

    def call(self) -> str:
        if self.fails:
            raise RuntimeError("as planned")
        Note.objects.create(text=self.text)
        return translation.get_language()


class SaveFirst(Save):
    collapse = Collapse(wait=timedelta(minutes=1), key=("user",), keep="first")


class SaveAtOnce(Save):
    collapse = Collapse(wait=0, key="user")


class SaveAll(Save):
    """One job for all users."""

    collapse = Collapse(wait=60)


class SaveInTime(Save):
    expires_in = 30


class SaveDurably(Save):
    durable = True


class SaveSoon(Save):
    queue = "low"
    collapse = Collapse(wait=0.1, key="user", at_most=0.1)


class SaveByInitial(Mandate):
    @staticmethod
    def initial(name: str, text: str = "") -> str:
        if not name:
            raise LookupError("no name")
        return name[0].lower()

    collapse = Collapse(wait=60, key=initial)
    name: str
    text: str = ""

    def call(self) -> None:
        Note.objects.create(text=self.text)


class SaveLimited(Mandate):
    """One at a time of each shop; the calls of a user collapse."""

    limits = [Concurrency(1, key="shop")]
    collapse = Collapse(wait=0, key="user")
    user: int
    shop: str
    text: str

    def call(self) -> None:
        Note.objects.create(text=self.text)


class SaveInTurn(SaveLimited):
    """Shops take turns; the calls of a user collapse."""

    limits = []
    share = "shop"
