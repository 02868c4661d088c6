"""The list of exercises with their statistics, as the page shows it: read through Django's cache."""

import logging
from typing import TypedDict

from django.core.cache import cache

from jiki.models import Exercise

logger = logging.getLogger(__name__)

KEY = "jiki:listing"
KEPT = 3_600  # seconds; it is made anew at each change and with each count, so this matters only when that fails


class Listed(TypedDict):
    """One exercise of the list. `pass_rate` is in percent of the learners; None before the first one."""

    slug: str
    title: str
    learners: int
    submissions: int
    pass_rate: int | None


def exercises() -> list[Listed]:
    """The list, from the cache if it is there. A cache that does not answer costs a query and a line in the log."""
    try:
        found: list[Listed] | None = cache.get(KEY)
        return warm() if found is None else found
    except Exception:  # whatever the cache's client raises: a list is no reason to fail
        logger.exception("The list of exercises was read past the cache.")
        return _read()


def warm() -> list[Listed]:
    """Read the list and put it into the cache. Raises what the database and the cache raise."""
    found = _read()
    cache.set(KEY, found, KEPT)
    return found


def forget() -> None:
    """Leave it to the next reader. Raises what the cache raises."""
    cache.delete(KEY)


def _read() -> list[Listed]:
    return [_listed(exercise) for exercise in Exercise.objects.select_related("statistics").defer("text", "checks")]


def _listed(exercise: Exercise) -> Listed:
    known = getattr(exercise, "statistics", None)  # there is none before the first count
    return {
        "slug": exercise.slug,
        "title": exercise.title,
        "learners": known.learners if known else 0,
        "submissions": known.submissions if known else 0,
        "pass_rate": known.pass_rate if known else None,
    }
