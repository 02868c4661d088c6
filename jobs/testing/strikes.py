"""What a test does to attempts at their checkpoints: it stops them, or kills their worker."""

from dataclasses import dataclass, field
from typing import Any

from jobs.record import payload
from jobs.steps.record import Current
from jobs.testing.recorded import command_name


@dataclass
class Strike:
    """One blow: at the first checkpoint of that step at which so many items are done, or at the very first one."""

    command: str
    at: str | None
    after: int
    kills: bool

    def hits(self, command: str, current: Current | None, done: int) -> bool:
        """Whether it strikes an attempt of that command at a checkpoint of that step."""
        here = current.name if current else None
        return command == self.command and (self.at is None or here == self.at) and done >= self.after

    def __str__(self) -> str:
        where = "" if self.at is None else f", at={self.at!r}"
        return f"{'kill' if self.kills else 'interrupt'}({self.command}{where}, after={self.after})"


@dataclass
class Strikes:
    """The strikes that a test has planned, each for one attempt."""

    left: list[Strike] = field(default_factory=list)
    is_killed: bool = False  # whether the attempt that runs was killed

    def add(self, command: type, at: str | None, after: int, *, kills: bool) -> None:
        """Plan one. TypeError for what is no command, ValueError for a negative number."""
        if after < 0:
            raise ValueError(f"after={after!r} is impossible. Give a number of items, 0 or more.")
        self.left.append(Strike(command_name(command), at, after, kills))

    def at(self, claim: Any, current: Current | None, done: int) -> str:
        """Return why the attempt ends at this checkpoint; "" if it goes on."""
        if not self.left:
            return ""
        command = payload.read(claim.data).name
        strike = next((each for each in self.left if each.hits(command, current, done)), None)
        if strike is None:
            return ""
        self.left.remove(strike)
        self.is_killed = strike.kills
        return "the test has killed the worker" if strike.kills else "the worker testing stops"

    def assert_none_left(self) -> None:
        """Raise AssertionError if one has not come to pass: a test that relies on it proves nothing."""
        if self.left:
            raise AssertionError(f"{self.left[0]} did not come to pass: no attempt has reached that checkpoint.")
