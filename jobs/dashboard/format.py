"""Formatting of time spans and names, for Python and for templates."""

from django.utils.translation import gettext as _

from jobs.dashboard import texts

NONE = "-"

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"), (0.001, "ms"), (0.000_001, "µs"))


def span(seconds: float | None) -> str:
    """Format seconds with a unit: 1.2 ms, 14 s, 3.5 h; a hyphen for None."""
    if seconds is None:
        return NONE
    for size, unit in _UNITS:
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {unit}"
    return "0"


def apart(seconds: float) -> str:
    """Format seconds from now: "in 14 s" if above 0, else "14 s ago"."""
    if seconds > 0:
        return _("in %(span)s") % {"span": span(seconds)}
    return _("%(span)s ago") % {"span": span(-seconds)}


def word(name: str) -> str:
    """Translate the name of a state, an event or a change; return any other name unchanged."""
    return str(texts.NAMES.get(name, name))
