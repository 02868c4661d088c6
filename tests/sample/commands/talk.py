"""Commands that log, and that return what they were given."""

import logging
from typing import Any

from jobs import Mandate


class Talk(Mandate):
    retries = 0
    lines: int
    fail: bool = False

    def call(self) -> None:
        for number in range(self.lines):
            logging.getLogger("talk").warning("line %d", number)
        if self.fail:
            raise RuntimeError("enough")


class TalkKept(Talk):
    keep_log = True


class Echo(Mandate):
    value: Any

    def call(self) -> Any:
        return self.value


class EchoType(Mandate):
    def call(self) -> object:
        return object()


class NameJob(Mandate):
    text: str

    def call(self) -> list[Any]:
        assert self.job is not None
        return [self.job.id, self.job.origin, self.job.command_args[0]]
