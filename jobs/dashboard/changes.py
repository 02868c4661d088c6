"""The page of one change of many jobs: how far it is, and what became of it."""

from typing import Any

from django.http import Http404, HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from jobs import bulk
from jobs.dashboard import texts
from jobs.dashboard.wrappers import Screen
from jobs.inspection import find
from jobs.record.states import ENDED


def change(request: HttpRequest, job_id: str) -> Screen:
    """How far a change of many jobs has come, and what became of it."""
    found = bulk.get(job_id)
    if found is None:
        raise Http404(_("There is no change by job %(id)s.") % {"id": job_id})
    title = ngettext("%(change)s: %(n)s job", "%(change)s: %(n)s jobs", texts.number(found.count))
    title %= {"change": texts.NAMES.get(found.name, found.name), "n": found.count}
    return "change", {"title": title, **progress_of(found)}


def progress_of(found: bulk.Change) -> dict[str, Any]:
    """A change as a page shows it: with the state of its job, which may have died."""
    job = None if found.ended else find(found.id)
    state = job.state if job else None
    return {
        "change": found,
        "state": state.value if state else "",
        "reason": job.reason if job else "",
        "is_over": found.ended is not None or state is None or state in ENDED,
        "result": texts.changed_many(found.name, found.changed, found.refused),
        "most": max(found.count.value, found.changed + found.refused, 1),
        "seen": found.changed + found.refused,
    }
