"""Pages of a list that is wholly known, and the search in it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from django.http import HttpRequest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """One page: its rows, their numbers in the whole list, and the queries of its neighbours, "" for none."""

    rows: Sequence[T]
    first: int
    last: int
    total: int
    previous: str
    following: str


def part(request: HttpRequest, rows: Sequence[T], size: int) -> Part[T]:
    """Return the page that the address names by `page`, counted from 1; the nearest one for any other number."""
    given, pages = request.GET.get("page", ""), max(1, -(-len(rows) // size))
    number = min(max(1, int(given)), pages) if given.isdecimal() and len(given) < 10 else 1
    first = (number - 1) * size
    shown = rows[first : first + size]

    def query(to: int) -> str:
        if not 1 <= to <= pages:
            return ""
        parameters = request.GET.copy()
        parameters["page"] = str(to)
        return parameters.urlencode()

    return Part(shown, first + bool(shown), first + len(shown), len(rows), query(number - 1), query(number + 1))


def has(wanted: str, texts: Iterable[str]) -> bool:
    """Return whether every word that is wanted is in one of the texts."""
    lower = [text.lower() for text in texts]
    return all(any(word in text for text in lower) for word in wanted.lower().split())
