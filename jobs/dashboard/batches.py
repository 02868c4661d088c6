"""The pages of the batches, and the actions on one."""

from collections.abc import Callable
from typing import Any

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from jobs.batches import rows
from jobs.batches.batch import Batch
from jobs.batches.rows import BatchRow
from jobs.batches.workflow import Workflow
from jobs.dashboard import dependencies, flows, texts
from jobs.dashboard.wrappers import Done, Question, Screen
from jobs.record import registry

SIZE = 50  # batches a page
SAMPLES = 10  # jobs of each state that the page of a batch names
MOST_AT_ONCE = 500  # members of a batch that a request changes itself; a job changes more than that
TONES = {"finished": "is-good", "pending": "is-busy", "dead": "is-bad"}  # of the other states: is-warn
CHANGES = {
    "retry_dead": "retry",
    "cancel": "cancel",
    "seal": "retry",
    "retry_from": "retry",
}  # by the permission that each needs


def batches(request: HttpRequest) -> Screen:
    """The batches, the newest first."""
    page = Paginator(range(rows.count()), SIZE).get_page(request.GET.get("page"))
    listed = rows.listed(page.start_index() - 1, SIZE) if page.paginator.count else []
    lines = [(row, bar(row)) for row in listed]
    return "batches", {"title": _("Batches"), "lines": lines, "part": page, "count": page.paginator.count, "kept": {}}


def batch(request: HttpRequest, batch_id: str) -> Screen:
    """The page of one batch: its members by state, errors, children and callbacks. Http404 if it has no record."""
    row = _existing(batch_id)
    children = [(child, bar(child)) for child in rows.children(row)]
    graph = flows.graph_of(row)
    return "batch", {
        "title": _("Batch %(name)s") % {"name": row.name or row.id},
        "row": row,
        "bar": bar(row),
        "errors": rows.errors(row) if row.counts["dead"] else [],
        "children": children,
        "graph": graph,
        "drawing": dependencies.drawing(request, graph, flows.DRAWN) if graph else "",
        "mermaid": flows.mermaid(graph) if graph else "",
        "callbacks": rows.callbacks(row),
        "some": rows.some_jobs(row, SAMPLES),
    }


def bar(row: BatchRow) -> SafeString:
    """Draw the members by state, as parts of one bar. The title has the numbers."""
    parts, start = [], 0.0
    for state in ("finished", "dead", "discarded", "cancelled", "deleted", "pending"):
        if number := row.counts[state]:
            width = 100 * number / row.total
            parts.append((TONES.get(state, "is-warn"), f"{start:.3f}", f"{width:.3f}"))
            start += width
    title = ", ".join(f"{number:,} {texts.NAMES[state]}" for state, number in row.counts.items() if number)
    drawn = format_html_join("", '<rect class="{}" x="{}%" width="{}%" height="100%"/>', parts)
    return format_html(
        '<svg class="jobs-batch-bar" role="img"><title>{}</title>{}</svg>', title or _("no members"), drawn
    )


def _existing(batch_id: str) -> BatchRow:
    row = rows.find(batch_id)
    if row is None:
        raise Http404(_("There is no record of batch %(id)s: it has ended and expired.") % {"id": batch_id})
    return row


# --- actions ---------------------------------------------------------------------------------


def change_batch(name: str) -> Callable[..., Done]:
    """Return the action that retries a batch's dead members, cancels or seals it, or runs steps of a flow again."""

    def change(request: HttpRequest, batch_id: str) -> Done:
        row = _existing(batch_id)
        if name == "seal":
            Batch.handle(batch_id, row.client).seal()
            return Done(_("Batch %(id)s was sealed: no more jobs follow.") % {"id": batch_id})
        if name == "retry_from":
            number = Workflow.handle(batch_id, row.client).retry_from(request.POST.get("step", ""))
            text = ngettext("%(n)s step runs again.", "%(n)s steps run again.", number)
            return Done(text % {"n": f"{number:,}"})
        if row.counts["dead" if name == "retry_dead" else "pending"] > MOST_AT_ONCE:
            command: Any = registry.get("jobs.ChangeBatch")
            job = command.defer(batch_id, name)
            return Done(_("Job %(id)s changes the batch.") % {"id": job.id})
        number = getattr(Batch.handle(batch_id, row.client), name)()
        if name == "cancel":
            text = ngettext("%(n)s job was cancelled.", "%(n)s jobs were cancelled.", number)
        else:
            text = ngettext("%(n)s job was retried.", "%(n)s jobs were retried.", number)
        return Done(text % {"n": f"{number:,}"})

    return change


def ask_cancel(request: HttpRequest, batch_id: str) -> Question:
    """Return the question before a batch is cancelled."""
    row = _existing(batch_id)
    text = _("Cancel batch %(name)s, of whose members %(n)s have not ended?")
    return Question(
        text=text % {"name": row.name or row.id, "n": f"{row.counts['pending']:,}"},
        verb=str(texts.NAMES["cancel"]),
        note=texts.consequence("cancel"),
    )
