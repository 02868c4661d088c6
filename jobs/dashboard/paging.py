"""Pages of a list that is wholly known, and the search in it."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.core.paginator import Page, Paginator
from django.http import HttpRequest


def part(request: HttpRequest, rows: Sequence[Any], size: int) -> "Page[Any]":
    """Return the page that the address names by `page`, counted from 1; the first or the last one for another."""
    return Paginator(rows, size).get_page(request.GET.get("page"))


def has(wanted: str, texts: Iterable[str]) -> bool:
    """Return whether every word that is wanted is in one of the texts."""
    lower = [text.lower() for text in texts]
    return all(any(word in text for text in lower) for word in wanted.lower().split())
