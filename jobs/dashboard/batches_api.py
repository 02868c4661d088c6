"""The batches as JSON."""

from typing import Any

from django.http import Http404, HttpRequest
from django.utils.translation import gettext as _

from jobs.batches import rows

SIZE = 100  # batches a page


def batches(request: HttpRequest) -> dict[str, Any]:
    """Batches, the newest first. `page`, counted from 1. ValueError for another."""
    number = int(request.GET.get("page", "1"))
    if number < 1:
        raise ValueError(f"page={number} is impossible. Pages are counted from 1.")
    listed = rows.listed((number - 1) * SIZE, SIZE)
    return {"count": rows.count(), "batches": [row.as_dict() for row in listed]}


def batch(request: HttpRequest, batch_id: str) -> dict[str, Any]:
    """One batch, with its errors, children and callbacks. Http404 without a record."""
    row = rows.find(batch_id)
    if row is None:
        raise Http404(_("There is no record of batch %(id)s: it has ended and expired.") % {"id": batch_id})
    return {
        **row.as_dict(),
        "errors": [error._asdict() for error in rows.errors(row)] if row.counts["dead"] else [],
        "children": [child.as_dict() for child in rows.children(row)],
        "callbacks": {event: job_id for event, job_id, _status in rows.callbacks(row)},
    }
