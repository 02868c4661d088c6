"""Asking what may hang: a database, or a server, behind a network that swallows packets."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

from django.db import connections

T = TypeVar("T")


class NoAnswerError(Exception):
    """Raised when there is no answer in time."""


class SingleFlight(Generic[T]):
    """
    Something that is asked in a thread of its own. While that waits nobody asks again: however often somebody wants to
    know, there is one thread for each question. It holds up no process that ends.
    """

    def __init__(self, name: str, ask: Callable[[], T]) -> None:
        self._name, self._ask = name, ask
        self._lock = threading.Lock()
        self._answer: Future[T] | None = None

    def start(self) -> None:
        """Ask, unless somebody is asking."""
        with self._lock:
            if self._answer is None or self._answer.done():
                self._answer = Future()
                asking = threading.Thread(target=self._run, args=[self._answer], name=f"ask-{self._name}", daemon=True)
                asking.start()

    def answer(self, until: float) -> T:
        """What `ask` returned, or raised. Waits until then (monotonic seconds); then NoAnswerError. After `start`."""
        assert self._answer is not None  # noqa: S101
        answer = self._answer
        wait([answer], max(0.0, until - time.monotonic()))
        if not answer.done():
            raise NoAnswerError(self._name)
        return answer.result()

    def _run(self, answer: "Future[T]") -> None:
        try:
            try:
                found = self._ask()
            finally:
                connections.close_all()  # this thread's
            answer.set_result(found)
        except Exception as error:
            answer.set_exception(error)
