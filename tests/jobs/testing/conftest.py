"""Commands that only one test has."""

from collections.abc import Callable, Iterator

import pytest

from jobs import Mandate, registry


@pytest.fixture
def defined() -> Iterator[Callable[[type[Mandate]], type[Mandate]]]:
    """Make a test's own class a command of the sample app, until the test ends."""
    before = registry.all_commands()

    def define(command: type[Mandate]) -> type[Mandate]:
        command.__module__ = "tests.sample.commands.notes"
        registry.register(command)
        return command

    yield define
    registry.all_commands()
    registry._commands.clear()
    registry._commands.update(before)
