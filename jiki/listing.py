"""The list of exercises with their statistics, as the page shows it: read through Django's cache."""

import logging
from typing import TypedDict

from django.core.cache import cache

from jiki.models import Exercise

logger = logging.getLogger(__name__)

KEY = "jiki:listing"
KEPT = 3_600  # seconds; each change and each count renews the list, so this matters only if that fails


class Listed(TypedDict):
    """One exercise of the list. `pass_rate` is in percent of the learners; None before the first one."""

    slug: str
    title: str
    learners: int
    submissions: int
    pass_rate: int | None


def exercises() -> list[Listed]:
    """Return the list from the cache, else from the database. A failure of the cache is logged."""
    try:
        cached: list[Listed] | None = cache.get(KEY)
        return warm() if cached is None else cached
    except Exception:  # any error of the cache's client: the page must not fail with the cache
        logger.exception("The list of exercises was read from the database: the cache failed.")
        return _read()


def warm() -> list[Listed]:
    """Read the list and put it into the cache. Raises what the database and the cache raise."""
    listed = _read()
    cache.set(KEY, listed, KEPT)
    return listed


def forget() -> None:
    """Delete the list from the cache: the next reader renews it. Raises what the cache raises."""
    cache.delete(KEY)


def _read() -> list[Listed]:
    return [_listed(exercise) for exercise in Exercise.objects.select_related("statistics").defer("text", "checks")]


def _listed(exercise: Exercise) -> Listed:
    statistics = getattr(exercise, "statistics", None)  # None before the first count
    return {
        "slug": exercise.slug,
        "title": exercise.title,
        "learners": statistics.learners if statistics else 0,
        "submissions": statistics.submissions if statistics else 0,
        "pass_rate": statistics.pass_rate if statistics else None,
    }
