"""Plans for commands with steps, and orders that an attempt gets at its checkpoints."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobs.steps import checkpoints
from tests.sample.commands.steps import Grade, Plan


@pytest.fixture(autouse=True)
def did() -> Iterator[list[Any]]:
    """What the plans have done, in order."""
    Plan.did.clear()
    Plan.plans.clear()
    yield Plan.did
    Plan.did.clear()
    Grade.at = None


@pytest.fixture
def plan() -> Callable[[Callable[[Plan], Any]], str]:
    """Have `Plan` do what a function does; returns the plan's name."""

    def add(function: Callable[[Plan], Any]) -> str:
        Plan.plans[function.__name__] = function
        return function.__name__

    return add


class Orders:
    """What the worker wants of the attempts: once `reason` is set, one ends at its next checkpoint."""

    def __init__(self) -> None:
        self.reason = ""
        self.allowed: list[float | None] = []

    def asked(self, claim: Any) -> str:
        reason, self.reason = self.reason, ""
        return reason


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> Orders:
    orders = Orders()
    monkeypatch.setattr(checkpoints, "asked", orders.asked)
    monkeypatch.setattr(checkpoints, "allow", lambda claim, seconds: orders.allowed.append(seconds))
    return orders


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write at every checkpoint, not once a second."""
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)
