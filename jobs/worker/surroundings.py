"""The environment of an attempt: the same for each, whatever ran in the thread before."""

from collections.abc import Callable
from contextvars import Context
from typing import ParamSpec, TypeVar

from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.urls import set_script_prefix

from jobs.attempts.claim import Claim
from jobs.safe_logging import safe_logger
from jobs.worker.databases import Databases

logger = safe_logger("jobs.worker")

P = ParamSpec("P")
R = TypeVar("R")


def new_context() -> Context:
    """
    Return a context like a management command's: with Django's script prefix, as `django.setup` sets it. Language, time
    zone and decimal context are the defaults, and context variables are unset.
    """
    context = Context()
    prefix = settings.FORCE_SCRIPT_NAME
    context.run(set_script_prefix, "/" if prefix is None else prefix)
    return context


class Surroundings:
    """The environment of one job thread. Create it in that thread, because Django's own values are per thread, too."""

    def __init__(self) -> None:
        self._context = new_context()
        self._databases = self._context.run(Databases)
        self._close_caches = self._context.run(_open_caches)

    def run(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `call` in a context of its own, which is dropped afterwards."""
        return self._context.copy().run(call, *args, **kwargs)

    def restore(self, claim: Claim) -> None:
        """Return database and cache connections after an attempt, as a request does."""
        self._databases.give_back(claim)
        for close in self._close_caches:
            try:
                close()
            except Exception:
                logger.exception("could not close a cache's connections")

    def close(self) -> None:
        """Close the database connections when the thread ends."""
        self._databases.close()


def share_caches() -> None:
    """
    Create, in the base context of an event loop, the cache objects that its tasks can share. Those whose connections
    are to be closed after a request are each task's own.
    """
    for alias in caches:
        try:
            if type(caches[alias]).close is not BaseCache.close:
                del caches[alias]
        except Exception:  # noqa: S112 - a job that uses it will fail with it
            continue


def _open_caches() -> list[Callable[[], object]]:
    """
    Create the thread's cache objects, which attempts share: Redis caches keep their connections. Returns the `close`
    methods of those that need to be closed after a request.
    """
    closers: list[Callable[[], object]] = []
    for alias in caches:
        try:
            cache = caches[alias]
        except Exception:  # noqa: S112 - a job that uses it will fail with it
            continue
        if type(cache).close is not BaseCache.close:
            closers.append(cache.close)
    return closers
