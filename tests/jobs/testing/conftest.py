"""Commands that only one test has."""

from collections.abc import Callable

import pytest

from jobs import Mandate
from jobs.record import registry


@pytest.fixture
def defined(own_commands: None) -> Callable[[type[Mandate]], type[Mandate]]:
    """Make a test's own class a command of the sample app, until the test ends."""

    def define(command: type[Mandate]) -> type[Mandate]:
        command.__module__ = "tests.sample.commands.notes"
        registry.register(command)
        return command

    return define
