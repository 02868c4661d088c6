"""A cron expression in words: "at 04:30 on Monday to Friday". Only what is said without a mistake is said."""

import re
from collections.abc import Callable

from django.utils.dates import MONTHS, WEEKDAYS
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAMES = ("", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def in_words(expression: str) -> str:
    """Return the expression in words; "" for one that has no short ones."""
    fields = ALIASES.get(expression.strip().lower(), expression).lower().split()
    if len(fields) != 5:
        return ""
    minute, hour, day, month, weekday = fields
    times, days = _times(minute, hour), _days(day, month, weekday)
    if not times or days is None:
        return ""
    return f"{times} {days}".rstrip()


def _times(minute: str, hour: str) -> str:
    if hour == "*" and (minute == "*" or (step := _step(minute, 60))):
        step = 1 if minute == "*" else step
        return ngettext("every minute", "every %(n)s minutes", step) % {"n": step}
    if not minute.isdecimal():
        return ""
    if hour == "*":
        return _("every hour, at minute %(minute)s") % {"minute": int(minute)}
    if step := _step(hour, 24):
        every = ngettext("every hour, at minute %(minute)s", "every %(n)s hours, at minute %(minute)s", step)
        return every % {"n": step, "minute": int(minute)}
    hours = hour.split(",")
    if not all(map(str.isdecimal, hours)):
        return ""
    return _("at %(times)s") % {"times": ", ".join(f"{int(each):02}:{int(minute):02}" for each in hours)}


def _days(day: str, month: str, weekday: str) -> str | None:
    """Return the days in words, "" for every day; None for what has no short words, as a day or a weekday."""
    if day != "*" and weekday != "*":
        return None  # either of them counts
    said = []
    if weekday != "*":
        names = _named(weekday, _DAYS, lambda at: str(WEEKDAYS[(at - 1) % 7]))
        if names is None:
            return None
        said.append(_("on %(days)s") % {"days": names})
    if day != "*":
        if not re.fullmatch(r"\d+(,\d+)*", day):
            return None
        said.append(_("on day %(days)s of the month") % {"days": day.replace(",", ", ")})
    if month != "*":
        names = _named(month, _NAMES, lambda at: str(MONTHS[at]))
        if names is None:
            return None
        said.append(_("in %(months)s") % {"months": names})
    return " ".join(said)


def _step(field: str, whole: int) -> int:
    """Return n of `*/n` if it divides the whole evenly, else 0: `*/7` minutes are not seven minutes apart."""
    found = re.fullmatch(r"\*/(\d+)", field)
    step = int(found[1]) if found else 0
    return step if step and whole % step == 0 else 0


def _named(field: str, known: tuple[str, ...], name: Callable[[int], str]) -> str | None:
    parts = []
    for item in field.split(","):
        numbers = [_number(each, known) for each in item.split("-")]
        ends = [each for each in numbers if each is not None]
        if len(ends) > 2 or len(ends) < len(numbers):
            return None
        named = [name(end) for end in ends]
        parts.append(_("%(first)s to %(last)s") % {"first": named[0], "last": named[1]} if len(ends) == 2 else named[0])
    return ", ".join(parts)


def _number(text: str, known: tuple[str, ...]) -> int | None:
    if text in known and text:
        return known.index(text)
    if not text.isdecimal():
        return None
    at = int(text) % 7 if known is _DAYS and int(text) == 7 else int(text)
    return at if at < len(known) and known[at] else None
