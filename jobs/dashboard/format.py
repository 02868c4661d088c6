"""Formatting of time spans and names, for Python and for templates."""

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from jobs.broker.times import moment
from jobs.dashboard import texts

NONE = "-"

_UNITS = ((1, "s"), (0.001, "ms"), (0.000_001, "µs"))
_LONG = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def span(seconds: float | None) -> str:
    """Format seconds with a unit, from a minute on with two: 1.2 ms, 14 s, 2 min 43 s, 3 h 5 min; a hyphen for None."""
    if seconds is None:
        return NONE
    if abs(seconds) >= 59.5:
        return _long(round(abs(seconds)), "-" if seconds < 0 else "")
    for size, unit in _UNITS:
        if abs(seconds) >= size:
            number = seconds / size
            return f"{number:.1f}".removesuffix(".0") + f" {unit}" if abs(number) < 9.95 else f"{number:.0f} {unit}"
    return "0"


def _long(seconds: int, sign: str) -> str:
    """Format a minute or more by its largest unit and the next one, which is left out if it is 0."""
    at = next(at for at, (size, _unit) in enumerate(_LONG) if seconds >= size)
    (size, unit), (smaller, less) = _LONG[at], _LONG[at + 1]
    rest = seconds % size // smaller
    return f"{sign}{seconds // size} {unit}" + (f" {rest} {less}" if rest else "")


def apart(seconds: float) -> str:
    """Format seconds from now: "in 14 s" if above 0, else "14 s ago"."""
    if seconds > 0:
        return _("in %(span)s") % {"span": span(seconds)}
    return _("%(span)s ago") % {"span": span(-seconds)}


def clock(seconds: int, form: str = "d M H:i") -> str:
    """Format seconds since the epoch in the user's time zone."""
    return date_format(timezone.localtime(moment(seconds)), form)


def percent(part: float) -> str:
    """Format a part of 1: 98 %, 0.4 %, 0 %."""
    value = part * 100
    return f"{value:.0f} %" if value >= 1 or not value else f"{value:.1f} %"


def word(name: str) -> str:
    """Translate the name of a state, an event or a change; return any other name unchanged."""
    return str(texts.NAMES.get(name, name))
