"""
Parses a search: `args.user:7 state:dead queue:low command:SendReceipt error:KeyError since:1h`.

Pages, API, terminal and bulk changes parse it here. What is not understood is refused, never ignored: a search also
says which jobs a change is made to.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from jobs import conf, queues, runtime
from jobs.errors import JobsError
from jobs.job import JobState
from jobs.record import registry

LONGEST = 2_000  # characters of a search
SUGGESTED = 300  # commands
ARGUMENT = "args"
TEXT = "text"
ONCE = ("queue", "command", "error", "id", "fingerprint", "since", "until", "order")
NAMES = ("state", *ONCE, TEXT, ARGUMENT)
UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
CENTURY = 36_525  # days

_WORDS = re.compile(r'(?:[^\s"]|"(?:[^"\\]|\\.)*")+')
_TERM = re.compile(r"([a-z_]+)((?:\.\w+)?)([:=])(.*)", re.DOTALL)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


class SearchError(JobsError, ValueError):
    """Raised for a search that is not understood. The message names the part and says what to write instead."""


@dataclass(frozen=True, slots=True)
class Term:
    """One condition. `name` is one of NAMES; `field`: of an argument, or "" for any; `value`: as written."""

    name: str
    value: str
    field: str = ""

    def __str__(self) -> str:
        """The term as it is written in a search."""
        if self.name == TEXT:
            return _quoted(self.value, is_text=True)
        return f"{self.name}{'.' if self.field else ''}{self.field}:{_quoted(self.value)}"


@dataclass(frozen=True, slots=True)
class Search:
    """A search, parsed. Every term must match, except that of several states one is enough."""

    terms: tuple[Term, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Search":
        """Parse a search. Raises SearchError."""
        if len(text) > LONGEST:
            raise SearchError(f"The search has {len(text):,} characters; {LONGEST:,} are the most.")
        if len(_QUOTED.sub("", text).replace('\\"', "").split('"')) > 1:
            raise SearchError(f"A quotation mark is not closed in {text!r}.")
        return cls(_checked([_term(word) for word in _WORDS.findall(text)]))

    @classmethod
    def of(cls, filters: Mapping[str, Any]) -> "Search":
        """
        Build it from `q`, a search, and filters of their own: `queue`, `command`, `error`, `text`, `id`, `since`,
        `until`, `order`, as in a page's address. Raises SearchError, UnknownQueueError for the filter `queue`.
        """
        given = {name: str(filters[name]).strip() for name in (*ONCE, TEXT) if filters.get(name)}
        if "queue" in given:
            queues.check(given["queue"])
        terms = [*cls.parse(str(filters.get("q") or "")).terms, *(Term(name, value) for name, value in given.items())]
        return cls(_checked(list(dict.fromkeys(terms))))

    def __str__(self) -> str:
        """The search as it is written."""
        return " ".join(map(str, self.terms))

    def without(self, *terms: Term) -> "Search":
        """Return the search without these terms."""
        return Search(tuple(term for term in self.terms if term not in terms))

    def with_term(self, name: str, value: str) -> "Search":
        """Return the search with this term in the place of others of its name."""
        return Search((*(term for term in self.terms if term.name != name), Term(name, value)))

    def value(self, name: str) -> str:
        """Return the value of the term of that name, or ""."""
        return next((term.value for term in self.terms if term.name == name), "")

    def values(self, name: str) -> tuple[str, ...]:
        """Return the values of all terms of that name."""
        return tuple(term.value for term in self.terms if term.name == name)

    @property
    def states(self) -> list[JobState]:
        """The states that it names; none: jobs in any state."""
        return [JobState(value) for value in self.values("state")]

    @property
    def arguments(self) -> tuple[tuple[str, str], ...]:
        """The fields and values of its arguments; the field "" is any."""
        return tuple((term.field, term.value) for term in self.terms if term.name == ARGUMENT)

    @property
    def command(self) -> str:
        """The name of its command; one that is written without its app is looked up."""
        name = self.value("command")
        found = _commands(name)
        return found[0] if len(found) == 1 else name

    def at(self, name: str) -> datetime | None:
        """Return the time of `since` or `until`, or None."""
        value = self.value(name)
        return moment_of(value) if value else None

    def frozen(self) -> "Search":
        """Return the search with times in the place of `1h` or `today`, so that it means the same later."""
        return Search(
            tuple(
                Term(term.name, moment_of(term.value).isoformat()) if term.name in ("since", "until") else term
                for term in self.terms
            )
        )


def moment_of(text: str) -> datetime:
    """
    Parse a time: ISO 8601 (without an offset in the current time zone), a date, `today`, `yesterday`, or a span before
    now such as `90s`, `30m`, `1h`, `2d`, `1w`. Raises SearchError.
    """
    now = datetime.fromtimestamp(runtime.now(), UTC)
    if found := re.fullmatch(r"(\d{1,9})(s|min|m|h|d|w)", text):
        span = timedelta(**{UNITS[found[2]]: int(found[1])}) if int(found[1]) < CENTURY * 86_400 else None
        if span is not None and span.days < CENTURY:
            return now - span
    if text in ("today", "yesterday"):
        day = timezone.localtime(now).date() - timedelta(days=text == "yesterday")
        return timezone.make_aware(datetime(day.year, day.month, day.day))
    try:
        if day_given := parse_date(text):
            return timezone.make_aware(datetime(day_given.year, day_given.month, day_given.day))
        if at := parse_datetime(text):
            return timezone.make_aware(at) if timezone.is_naive(at) else at
    except (ValueError, OverflowError):
        pass
    raise SearchError(
        f"{text!r} is not a time. Write a span such as 30m, 1h or 2d, today, yesterday, 2026-01-31 or 2026-01-31T12:00."
    )


def suggestions() -> list[str]:
    """Return terms to begin with: the states, queues and commands that there are, and the forms of the others."""
    commands = [f"command:{name}" for name in sorted(registry.all_commands())][:SUGGESTED]
    states = [f"state:{state.value}" for state in JobState]
    return [
        *states,
        *(f"queue:{name}" for name in conf.queues()),
        *commands,
        "args.",
        "error:",
        "since:1h",
        "since:today",
    ]


# --- terms -----------------------------------------------------------------------------------


def _term(word: str) -> Term:
    found = _as_term(word)
    if found is None:
        return Term(TEXT, _unquoted(word))
    name, field, sign, value = found[1], found[2][1:], found[3], _unquoted(found[4])
    if name not in NAMES:
        if sign == "=":
            near = get_close_matches(name, NAMES, 1, 0.8)
            if not near:
                return Term(TEXT, _unquoted(word))  # such as force=True, as calls are shown
            name, sign = near[0], ":"
            raise SearchError(f"{word!r} is not understood. Did you mean {name}:{value}?")
        raise SearchError(f"There is no filter {name + found[2]!r}.{_meant(name, NAMES)} {_as_text(word)}")
    if sign == "=":
        raise SearchError(f"{word!r} is not understood. Write {name}{found[2]}:{value}. {_as_text(word)}")
    if field and name != ARGUMENT:
        raise SearchError(f"There is no filter {name + found[2]!r}. Write {name}:{value}. {_as_text(word)}")
    if not value and name != ARGUMENT:
        raise SearchError(f"{name}: has no value. Write it directly after the colon.")
    return Term(name, value, field)


def _as_term(word: str) -> re.Match[str] | None:
    """Return the parts of what is written as a term; None for a text, such as the reference `users.User:7`."""
    found = _TERM.fullmatch(word)
    is_reference = found is not None and found[1] not in NAMES and found[2][1:2].isupper()
    return None if is_reference else found


def _checked(terms: Sequence[Term]) -> tuple[Term, ...]:
    for name in ONCE:
        values = [term.value for term in terms if term.name == name]
        if len(values) > 1:
            raise SearchError(f"{name} is given {len(values)} times: {', '.join(values)}. Give it once.")
    for term in terms:
        if check := _CHECKS.get(term.name):
            check(term.value)
    return tuple(dict.fromkeys(terms))


def _check_state(value: str) -> None:
    states = [state.value for state in JobState]
    if value not in states:
        raise SearchError(f"There is no state {value!r}.{_meant(value, states)} The states are: {', '.join(states)}.")


def _check_queue(value: str) -> None:
    names = list(conf.queues())
    if value not in names:
        raise SearchError(f"There is no queue {value!r}.{_meant(value, names)} The queues are: {', '.join(names)}.")


def _check_command(value: str) -> None:
    """A name with a dot may be that of another release, or a plain RQ job's function."""
    found = _commands(value)
    if len(found) > 1:
        raise SearchError(f"Several commands are called {value!r}. Write one of: {', '.join(found)}.")
    if not found and "." not in value:
        known = registry.all_commands()
        near = get_close_matches(value, {name.partition(".")[2]: name for name in known}, 1)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise SearchError(f"No command is called {value!r}.{meant}")


def _check_order(value: str) -> None:
    if value not in ("newest", "oldest"):
        raise SearchError(f"There is no order {value!r}. Write order:newest or order:oldest.")


_CHECKS: dict[str, Callable[[str], object]] = {
    "state": _check_state,
    "queue": _check_queue,
    "command": _check_command,
    "since": moment_of,
    "until": moment_of,
    "order": _check_order,
}


def _commands(name: str) -> list[str]:
    known = registry.all_commands()
    if not name or name in known:
        return [name] if name else []
    return [each for each in known if each.partition(".")[2] == name]


def _meant(name: str, among: Sequence[str]) -> str:
    near = get_close_matches(name, among, 1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _as_text(word: str) -> str:
    return f'To search for this text, quote it: "{word}"'.replace('""', '"')


def _quoted(value: str, *, is_text: bool = False) -> str:
    is_plain = value and not re.search(r'[\s"]', value) and not (is_text and _as_term(value))
    if is_plain:
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _unquoted(word: str) -> str:
    return _QUOTED.sub(lambda quoted: re.sub(r"\\(.)", r"\1", quoted[1]), word)
