"""
The limits that a command declares: `limits = [Concurrency(1, key="shop"), Rate(40, per=60)]`. Pure: no server.

A limit has an id, which all commands of its `group` share: `<group>:<kind>:<names of its key>`. `values` computes the
value of the key for one job.
"""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from jobs.errors import CommandDefinitionError
from jobs.retries import seconds_of

Key = str | Sequence[str] | Callable[..., Any] | None
OnFull = Literal["wait", "discard"]
Share = str | Callable[..., Any] | None
Pause = float | timedelta | Callable[[Any], float | timedelta | None]  # of an error

MOST = 1_000_000  # slots, starts, cost: a larger number is a mistake
NAME_LENGTH = 100  # characters of a group


@dataclass(frozen=True)
class Limit:
    """What the limits have in common. `key`: one for each value of these fields, or of what this function returns."""

    n: int
    key: Key = None
    group: str = ""  # shared by the commands that name it; "": the command alone

    kind = ""  # of the id

    def __post_init__(self) -> None:
        _whole(self, "n")
        names = (self.key,) if isinstance(self.key, str) else self.key
        is_function = callable(self.key) or isinstance(self.key, staticmethod)
        is_names = isinstance(names, list | tuple) and names and all(isinstance(each, str) and each for each in names)
        if not (self.key is None or is_function or is_names):
            refuse(self, "key", "the name of a field, a list of names, a static method, or None")
        if not isinstance(self.group, str) or len(self.group) > NAME_LENGTH or not self.group.isprintable():
            refuse(self, "group", f"a name of at most {NAME_LENGTH} characters")

    @property
    def names(self) -> tuple[str, ...]:
        """The fields of the key; none for a function."""
        if self.key is None or self.function is not None:
            return ()
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)  # type: ignore[arg-type]

    @property
    def function(self) -> Callable[..., Any] | None:
        """The function of the key, if it is one."""
        key: Any = self.key.__func__ if isinstance(self.key, staticmethod) else self.key
        return key if callable(key) else None

    def named(self, command: str) -> str:
        """Return the limit's id, for a limit of the command of that name."""
        key = getattr(self.function, "__name__", "function") if self.function else "+".join(self.names)
        return f"{self.group or command}:{self.kind}:{key}"


@dataclass(frozen=True)
class Concurrency(Limit):
    """
    At most `n` jobs at once. `on_full`: "wait" lets a job wait until one ends, "discard" drops it.

    `key`: the name of a field, several names, or a static method that gets the arguments of the call: so many for each
    value; None: for all jobs. `group`: a name that commands share to share the limit; the command alone by default.

    Raises CommandDefinitionError for an impossible argument.
    """

    on_full: OnFull = "wait"

    kind = "concurrency"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.on_full not in ("wait", "discard"):
            refuse(self, "on_full", '"wait" or "discard"')


@dataclass(frozen=True)
class Rate(Limit):
    """
    At most `n` *starts* in `per` seconds (or a timedelta), evenly; `burst` of them may come at once (default: `n`). A
    job counts as `cost` starts. A retry is a start, too.

    `key` and `group`: as those of Concurrency. Raises CommandDefinitionError for an impossible argument.
    """

    per: float | timedelta = 1
    burst: int | None = None
    cost: int = 1

    kind = "rate"

    def __init__(
        self,
        n: int,
        per: float | timedelta,
        *,
        key: Key = None,
        burst: int | None = None,
        cost: int = 1,
        group: str = "",
    ) -> None:
        for name, value in {"n": n, "key": key, "group": group, "per": per, "burst": burst, "cost": cost}.items():
            object.__setattr__(self, name, value)
        super().__post_init__()
        if not seconds_of(per) > 0:
            refuse(self, "per", "a number of seconds above 0, or a timedelta")
        if burst is not None:
            _whole(self, "burst")
        _whole(self, "cost")
        if cost > self.most:
            refuse(self, "cost", f"{self.most} at most, the burst: more is never free at once")

    @property
    def most(self) -> int:
        """The starts that may come at once."""
        return self.n if self.burst is None else self.burst

    @property
    def seconds(self) -> float:
        """The seconds in which `n` may start."""
        return seconds_of(self.per)


def refuse(limit: Limit, option: str, wanted: str) -> None:
    """Raise CommandDefinitionError for an option of a limit."""
    raise CommandDefinitionError(
        f"{type(limit).__name__}: {option} = {getattr(limit, option)!r} is impossible. It must be {wanted}."
    )


def _whole(limit: Limit, option: str) -> None:
    value = getattr(limit, option)
    if not (type(value) is int and 1 <= value <= MOST):
        refuse(limit, option, f"a whole number from 1 to {MOST:,}")


def check(command: Any) -> None:
    """
    Refuse what a command declares as `limits`, unless it is a list of limits whose keys are among its fields.

    Raises:
        CommandDefinitionError: names the command, the value and the remedy.
    """
    limits, fields = command.limits, [each.name for each in dataclasses.fields(command) if each.init]
    if not isinstance(limits, list | tuple) or not all(isinstance(each, Concurrency | Rate) for each in limits):
        raise CommandDefinitionError(
            f"{command.__qualname__}: limits = {limits!r} is impossible. It must be a list of Concurrency(...) and "
            "Rate(...)."
        )
    for limit in limits:
        if missing := [name for name in limit.names if name not in fields]:
            raise CommandDefinitionError(
                f"{command.__qualname__}: key={limit.key!r} of its limit names {missing[0]!r}, which is no field. Its "
                f"fields are: {', '.join(fields) or 'none'}."
            )
        if limit.function is not None and inspect.iscoroutinefunction(limit.function):
            raise CommandDefinitionError(
                f"{command.__qualname__}: key={limit.key!r} of its limit is a coroutine function. Use a plain `def`."
            )


def check_errors(command: Any) -> None:
    """
    Refuse what a command declares as `limit_on`, unless it maps errors to pauses and the command has limits.

    Raises:
        CommandDefinitionError: names the command, the value and the remedy.
    """
    declared = command.limit_on
    fits = isinstance(declared, dict) and all(
        isinstance(kind, type) and issubclass(kind, Exception) and (callable(pause) or seconds_of(pause) >= 0)
        for kind, pause in declared.items()
    )
    if not fits or (declared and not command.limits):
        raise CommandDefinitionError(
            f"{command.__qualname__}: limit_on = {declared!r} is impossible. It must be a dict of exception classes "
            "and seconds, or functions of the error that return them; and the command needs `limits`."
        )


def check_share(command: Any) -> None:
    """
    Refuse what a command declares as `share`, unless it is one of its fields or a static method.

    Raises:
        CommandDefinitionError: names the command, the value and the remedy.
    """
    share = inspect.getattr_static(command, "share")
    fields = [each.name for each in dataclasses.fields(command) if each.init]
    if share is None or isinstance(share, staticmethod) or (isinstance(share, str) and share in fields):
        return
    raise CommandDefinitionError(
        f"{command.__qualname__}: share = {share!r} is impossible. It must be the name of a field, a static method of "
        f"the fields, or None. The fields are: {', '.join(fields) or 'none'}."
    )


def pause_after(command: Any, error: BaseException) -> float | None:
    """
    Return the seconds for which a command's limits pause after an error, by its `limit_on`; the errors that caused it
    count, too. None if it has no pause for it, or if the function for it returns none or raises.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        for kind in type(cause).__mro__:
            if kind in command.limit_on:
                pause = command.limit_on[kind]
                seconds = seconds_of(pause(cause) if callable(pause) else pause)
                return seconds if seconds >= 0 else None
        cause = cause.__cause__
    return None


def numbers(command: Any, group: str) -> list[int]:
    """
    Return the numbers, from 1, of a command's limits of that group; of all, for "". Raises ValueError if it has none.
    """
    found = [number for number, limit in enumerate(command.limits, 1) if group in ("", limit.group)]
    if not found:
        which = f"no limit of group={group!r}" if group else "no limits"
        raise ValueError(f"{type(command).__qualname__} has {which}. Declare it in `limits`.")
    return found


def ids(command: Any, name: str) -> tuple[str, ...]:
    """Return the ids of a command's limits. A second rate with the same key is `rate2`, by the order of the list."""
    named: list[str] = []
    for limit in command.limits:
        first = limit.named(name)
        number, each = 1, first
        while each in named:
            number += 1
            each = first.replace(f":{limit.kind}:", f":{limit.kind}{number}:", 1)
        named.append(each)
    return tuple(named)
