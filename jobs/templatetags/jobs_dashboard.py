"""How the dashboard shows times."""

from datetime import UTC, datetime
from typing import Any

from django import template
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from jobs.dashboard import texts

register = template.Library()

NONE = "-"

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"), (0.001, "ms"), (0.000_001, "µs"))


@register.filter
def span(seconds: float | None) -> str:
    """Seconds as a person reads them: 1.2 ms, 14 s, 3.5 h; a hyphen for none."""
    if seconds is None:
        return NONE
    for size, unit in _UNITS:
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {unit}"
    return "0"


@register.filter
def moment(at: datetime | str | None) -> SafeString | str:
    """A time in the reader's zone; how long ago or ahead it is stands in its title."""
    if isinstance(at, str):
        at = datetime.fromisoformat(at) if at else None
    if at is None:
        return NONE
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    away = (at - datetime.now(UTC)).total_seconds()
    told = apart(away)
    local = timezone.localtime(at)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', at.isoformat(), told, date_format(local, "d M H:i:s")
    )


@register.filter
def away(at: datetime | None) -> str:
    """How long ago or ahead a time is."""
    if at is None:
        return NONE
    return apart((at - datetime.now(UTC)).total_seconds())


def apart(seconds: float) -> str:
    """How long ahead something is, or ago, if less than 0."""
    if seconds > 0:
        return _("in %(span)s") % {"span": span(seconds)}
    return _("%(span)s ago") % {"span": span(-seconds)}


@register.filter
def word(name: str) -> str:
    """A name of a state, an event or a change, in the reader's language; any other name as it is."""
    return str(texts.NAMES.get(name, name))


@register.filter
def label(name: str) -> str:
    """The same as a button or a heading says it."""
    return capfirst(word(name).replace("_", " "))


@register.simple_tag(takes_context=True)
def leads_to(context: dict[str, Any], name: str, *args: str) -> SafeString:
    """The attributes of a link to a page: its address, and whether the reader is there."""
    address = reverse(name, args=args)
    here = context["request"].path == address
    return format_html('href="{}" aria-current="page"' if here else 'href="{}"', address)
