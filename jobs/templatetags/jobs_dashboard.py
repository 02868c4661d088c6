"""Template filters and tags of the dashboard."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from django import template
from django.contrib.humanize.templatetags.humanize import intcomma
from django.template import RequestContext
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from jobs.dashboard import htmx
from jobs.dashboard.converters import NameConverter
from jobs.dashboard.cron import in_words
from jobs.dashboard.format import NONE, apart, span, word
from jobs.errors import JobsError
from jobs.inspection import search
from jobs.record import display

FOLLOWING = 4  # times after the next one that a recurring entry shows

register = template.Library()
register.filter(intcomma)  # so that a project needs no `django.contrib.humanize`
register.filter(span)
register.filter(word)


@register.filter
def moment(at: datetime | str | None) -> SafeString | str:
    """Format a time in the user's time zone; its title has the distance from now."""
    if isinstance(at, str):
        at = datetime.fromisoformat(at) if at else None
    if at is None:
        return NONE
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    distance = apart((at - datetime.now(UTC)).total_seconds())
    local = timezone.localtime(at)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', at.isoformat(), distance, date_format(local, "d M H:i:s")
    )


@register.filter
def away(at: datetime | None) -> str:
    """Format a time's distance from now: "in 14 s", "14 s ago"."""
    if not isinstance(at, datetime):  # None, or what a job's record has instead of a time
        return NONE
    return apart((at - datetime.now(UTC)).total_seconds())


@register.filter
def elapsed(at: datetime | None) -> str:
    """Format the time since then: "14 s"."""
    return span(None if at is None else max(0.0, (datetime.now(UTC) - at).total_seconds()))


@register.filter
def marked(text: Any) -> str:
    """Show the controls of text direction in a text as marks, such as \u27e8U+202E\u27e9."""
    return display.marked(str(text))


@register.filter
def words(text: str) -> list[str]:
    """Split a text at its spaces, for a loop in a template."""
    return text.split()


@register.filter
def label(name: str) -> str:
    """Translate a name as `word` does, for a button or a heading: capitalized, without underscores."""
    return capfirst(word(name).replace("_", " "))


@register.filter
def cron(expression: str) -> str:
    """Return a cron expression in words, where it has short ones."""
    return in_words(expression)


@register.filter
def following(entry: Any) -> list[datetime]:
    """Return the four times of a recurring entry after its next one."""
    times = [entry.next_at]
    try:
        while len(times) < FOLLOWING + 1:
            times.append(entry.entry.next_after(times[-1]))
    except JobsError:  # its definition is not readable here, or there is no further time
        pass
    return times[1:]


# The sign and, for readers who do not see its colour, the word of each end of a run.
_SIGNS = {"finished": "\u2713", "dead": "\u2715", "unfinished": "\u2026", "missed": "!", "skipped": "\u2013"}


@register.simple_tag
def tick(run: Any) -> SafeString:
    """Return one run of a recurring entry as a coloured sign that leads to its job, seen from the page of entries."""
    end = run.outcome or run.what
    told = f"{word(end)}, {date_format(timezone.localtime(run.at), 'd M H:i:s')}"
    if run.what == "skipped":
        told += f": {_('%(id)s was queued or running') % {'id': run.job_id}}"
    address = f"../job/{quote(NameConverter().to_url(run.job_id))}/" if run.job_id else ""  # `reverse` takes too long
    shape = '<a class="jobs-tick jobs-state-{0}" href="{3}" title="{2}" aria-label="{2}">{1}</a>'
    if not address:
        shape = '<span class="jobs-tick jobs-state-{0}" role="img" title="{2}" aria-label="{2}">{1}</span>'
    return format_html(shape, end, _SIGNS.get(end, "\u2022"), told, address)


@register.simple_tag(takes_context=True)
def button(context: RequestContext, url: str, text: str, about: str = "", kind: str = "") -> SafeString:
    """
    Return a form of one button, which posts to `url` and comes back to the page. `about`: what it changes, for readers
    who do not see where it stands. A page has dozens, for which an included template is too slow.
    """
    fields = [("csrfmiddlewaretoken", context.get("csrf_token", "")), ("next", context.get("path", ""))]
    if context.get("list"):
        fields.append(("list", context["list"]))
    return format_html(
        '<form method="post" action="{}" class="jobs-form">{}<button type="submit" class="jobs-button {}"{}>{}</button>'
        "</form>",
        *(url, format_html_join("", '<input type="hidden" name="{}" value="{}">', fields), kind),
        *(
            format_html(' aria-label="{}"', _("%(text)s %(about)s") % {"text": text, "about": about}) if about else "",
            text,
        ),
    )


@register.simple_tag
def pill(state: str) -> SafeString | str:
    """Return the pill of a state: a dot in its colour, and its word; nothing for no state."""
    return format_html('<span class="jobs-pill jobs-state-{}">{}</span>', state, word(state)) if state else ""


@register.simple_tag(takes_context=True)
def leads_to(context: RequestContext, name: str, *args: str) -> SafeString:
    """Return the attributes of a link to a page: `href`, and `aria-current` if it is the current page."""
    address = _address(context, name, *args)
    here = context.request.path == address
    return format_html('href="{}" aria-current="page"' if here else 'href="{}"', address)


@register.simple_tag
def search_terms() -> list[str]:
    """Return the terms that the search box suggests."""
    return search.suggestions()


def _address(context: RequestContext, name: str, *args: str) -> str:
    return reverse(name, args=args, current_app=getattr(context.request, "current_app", None))


@register.simple_tag(takes_context=True)
def refresh_script(context: RequestContext) -> SafeString | str:
    """Return the script element of htmx, which refreshes the page; nothing where it is not installed."""
    return htmx.element(context.request, context.get("csp_nonce"))
