"""Runs a call that may hang, such as a query over a network that drops packets, in one thread at a time."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

from django.db import connections

T = TypeVar("T")


class NoAnswerError(Exception):
    """Raised when the call does not return in time."""


class SingleFlight(Generic[T]):
    """
    Runs `ask` in a thread of its own. While that thread waits, no other one is started, however often `start` is
    called. It is a daemon thread, so it does not keep a process from ending.
    """

    def __init__(self, name: str, ask: Callable[[], T]) -> None:
        self._name, self._ask = name, ask
        self._lock = threading.Lock()
        self._answer: Future[T] | None = None

    def start(self) -> None:
        """Start `ask`, unless it is running."""
        with self._lock:
            if self._answer is None or self._answer.done():
                self._answer = Future()
                asking = threading.Thread(target=self._run, args=[self._answer], name=f"ask-{self._name}", daemon=True)
                asking.start()

    def answer(self, until: float) -> T:
        """
        Return what `ask` returned, or raise what it raised. Waits until `until` (monotonic seconds), then raises
        NoAnswerError. Call `start` first.
        """
        assert self._answer is not None  # noqa: S101
        answer = self._answer
        wait([answer], max(0.0, until - time.monotonic()))
        if not answer.done():
            raise NoAnswerError(self._name)
        return answer.result()

    def _run(self, answer: "Future[T]") -> None:
        try:
            try:
                result = self._ask()
            finally:
                connections.close_all()  # this thread's
            answer.set_result(result)
        except Exception as error:
            answer.set_exception(error)
