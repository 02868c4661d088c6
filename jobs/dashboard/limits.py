"""The page of the limits, and the changes of a limit that it offers."""

from django.http import HttpRequest
from django.utils.translation import gettext as _

from jobs.dashboard.wrappers import Done, Screen
from jobs.errors import LimitError
from jobs.limits import control
from jobs.limits.usage import SHOWN, usage


def limits(request: HttpRequest) -> Screen:
    """Every limit: what it admits, what is in use and by whom, what waits, and since when."""
    rows = [(each, each.places[:SHOWN], len(each.places)) for each in usage()]
    return "limits", {"title": _("Limits"), "rows": rows}


def pause(request: HttpRequest, name: str) -> Done:
    """Pause a limit."""
    control.pause(name)
    return Done(_("The limit %(name)s is paused.") % {"name": name})


def resume(request: HttpRequest, name: str) -> Done:
    """Resume a limit."""
    control.resume(name)
    return Done(_("The limit %(name)s was resumed.") % {"name": name})


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
