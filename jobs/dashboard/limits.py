"""The page of the limits, and the changes of a limit that it offers."""

from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _

from jobs.dashboard.wrappers import Done, Screen
from jobs.errors import LimitError
from jobs.limits import control, values
from jobs.limits.usage import SHOWN, usage


def limits(request: HttpRequest) -> Screen:
    """Every limit: what it admits, what is in use and by whom, what waits, and since when."""
    rows = [(each, each.places[:SHOWN], len(each.places)) for each in usage()]
    return "limits", {"title": _("Limits"), "rows": rows}


def as_json(request: HttpRequest) -> dict[str, Any]:
    """Every limit, as `limits` shows it, with all of its places that were read."""
    return {"limits": [each.as_dict() for each in usage()]}


def pause(request: HttpRequest, name: str) -> Done:
    """Pause a limit; with `value` in the form, that value of its key."""
    value = _value(request)
    control.pause(name, text=value)
    if value is None:
        return Done(_("The limit %(name)s is paused.") % {"name": name})
    return Done(_("The limit %(name)s is paused for %(value)s.") % {"name": name, "value": value})


def resume(request: HttpRequest, name: str) -> Done:
    """Resume a limit; with `value` in the form, that value of its key."""
    value = _value(request)
    control.resume(name, text=value)
    if value is None:
        return Done(_("The limit %(name)s was resumed.") % {"name": name})
    return Done(_("The limit %(name)s was resumed for %(value)s.") % {"name": name, "value": value})


def _value(request: HttpRequest) -> str | None:
    """Return the text of the value that the form names, or None. LimitError for a field that was left empty."""
    given = request.POST.get("value")
    if given is None:
        return None
    if not given.strip():
        raise LimitError(_("Give the value of the key, as JSON or text."))
    return values.typed(given.strip())


def override(request: HttpRequest, name: str) -> Done:
    """Put another number in the place of the code's; without a number, the code's again."""
    given = request.POST.get("n", "").strip()
    if not given:
        control.take_back(name)
        return Done(_("The limit %(name)s is the code's again.") % {"name": name})
    try:
        number = int(given)
    except ValueError:
        raise LimitError(_("%(given)s is no whole number.") % {"given": given[:20]}) from None
    control.override(name, n=number)
    return Done(_("The limit %(name)s admits %(number)s now.") % {"name": name, "number": number})
