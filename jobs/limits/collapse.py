"""
Debounce: pushes of one key collapse into the job of that key that has not begun. `defer` works out the key; `push.lua`
decides which job takes a push.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from jobs import unrun
from jobs.errors import CommandDefinitionError
from jobs.retries import seconds_of

Key = str | list[str] | tuple[str, ...] | Callable[..., Any] | None

AT_MOST = 10  # times `wait`, where `at_most` is not given


@dataclass(frozen=True)
class Collapse:
    """
    The option `collapse` of a command: `Collapse(wait=5, key="user", keep="last", at_most=60)`.

    A job runs `wait` seconds (or a timedelta) after it was deferred. Until it begins, each further `defer` with the
    same key collapses into it: no job is made, and the wait begins anew, but ends `at_most` seconds (or a timedelta)
    after the first `defer`; ten times `wait` if that is not given. A job that is in its queue by then keeps its place.

    `key` is a field, a list of fields, or a static method of the fields; None: all jobs of the command have one key.
    `keep` is "last", to run with the arguments and the context of the last `defer` that arrived, or "first".

    Raises CommandDefinitionError for other values, when it is made; for a field that the command lacks, when the
    command is defined.
    """

    wait: float | timedelta
    key: Key = None
    keep: Literal["last", "first"] = "last"
    at_most: float | timedelta | None = None

    def __post_init__(self) -> None:
        if not seconds_of(self.wait) >= 0:
            raise _impossible(self, "wait", "a number of seconds, 0 or more, or a timedelta; a century at most")
        if self.at_most is not None and not seconds_of(self.at_most) >= self.seconds:
            raise _impossible(self, "at_most", "seconds or a timedelta, as long as wait or longer; a century at most")
        if self.keep not in ("last", "first"):
            raise _impossible(self, "keep", '"last" or "first"')
        is_list = isinstance(self.key, str | list | tuple) and bool(self.fields)
        is_list = is_list and all(isinstance(each, str) and each.isidentifier() for each in self.fields)
        if not (self.key is None or callable(self.key) or is_list):
            raise _impossible(self, "key", "the name of a field, a list of names, a static method, or None")
        if callable(self.key) and (kind := unrun.kind_of(self.key)):
            raise CommandDefinitionError(
                f"{self!r}: key is {kind}, and `defer` would not run its body. Make it a plain function."
            )

    @property
    def seconds(self) -> float:
        """The wait in seconds."""
        return seconds_of(self.wait)

    @property
    def seconds_at_most(self) -> float:
        """Seconds after the first push by which the job is due at the latest."""
        return AT_MOST * self.seconds if self.at_most is None else seconds_of(self.at_most)

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields that are the key; none if it is a method or None."""
        if self.key is None or callable(self.key):
            return ()
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)

    def check(self, command: Any) -> None:
        """Check that the command, a dataclass, has the fields of the key. Raises CommandDefinitionError."""
        known = [field.name for field in dataclasses.fields(command) if field.init]
        for name in self.fields:
            if name not in known:
                raise CommandDefinitionError(
                    f"{command.__qualname__}: collapse has the key {name!r}, which is no field. "
                    f"The fields are: {', '.join(known) or 'none'}."
                )

    def value_of(self, bound: Any, args: Sequence[Any], fields: Mapping[str, Any]) -> Any:
        """
        Return the key of one call. `bound`: the command with its fields; `args`, `fields`: as they were given, for a
        method, whose errors are raised.
        """
        if callable(self.key):
            return unrun.checked(self.key(*args, **fields), f"The key of {self!r}")
        return [getattr(bound, name) for name in self.fields]


def _impossible(collapse: Collapse, option: str, wanted: str) -> CommandDefinitionError:
    return CommandDefinitionError(f"{collapse!r}: {option} must be {wanted}.")
