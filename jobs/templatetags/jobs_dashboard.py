"""Template filters and tags of the dashboard."""

from datetime import UTC, datetime
from typing import Any

from django import template
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst

from jobs.dashboard.format import NONE, apart, span, word

register = template.Library()
register.filter(span)
register.filter(word)


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
