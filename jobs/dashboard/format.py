"""How the dashboard writes spans of time and names, in Python and in templates."""

from django.utils.translation import gettext as _

from jobs.dashboard import texts

NONE = "-"

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"), (0.001, "ms"), (0.000_001, "µs"))


def span(seconds: float | None) -> str:
    """Seconds as a person reads them: 1.2 ms, 14 s, 3.5 h; a hyphen for none."""
    if seconds is None:
        return NONE
    for size, unit in _UNITS:
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {unit}"
    return "0"


def apart(seconds: float) -> str:
    """How long ahead something is, or ago, if less than 0."""
    if seconds > 0:
        return _("in %(span)s") % {"span": span(seconds)}
    return _("%(span)s ago") % {"span": span(-seconds)}


def word(name: str) -> str:
    """A name of a state, an event or a change, in the reader's language; any other name as it is."""
    return str(texts.NAMES.get(name, name))
