"""The page of one bulk change: its progress and its result."""

from typing import Any

from django.http import Http404, HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from jobs import bulk
from jobs.dashboard import texts
from jobs.dashboard.format import word
from jobs.dashboard.wrappers import Screen
from jobs.inspection import find
from jobs.record.states import ENDED


def change(request: HttpRequest, job_id: str) -> Screen:
    """The progress and the result of one bulk change. Http404 if it is unknown."""
    change = bulk.get(job_id)
    if change is None:
        raise Http404(_("There is no change by job %(id)s.") % {"id": job_id})
    title = ngettext("%(change)s: %(n)s job", "%(change)s: %(n)s jobs", texts.number(change.count))
    title %= {"change": word(texts.verb_for(change.name, change.state)), "n": change.count}
    return "change", {"title": title, **progress_of(change)}


def progress_of(change: bulk.Change) -> dict[str, Any]:
    """Return the context of a change's page, with the state of its job, which may have died."""
    job = None if change.ended else find(change.id)
    state = job.state if job else None
    return {
        "change": change,
        "verb": texts.verb_for(change.name, change.state),
        "state": state.value if state else "",
        "reason": job.reason if job else "",
        "is_over": change.ended is not None or state is None or state in ENDED,
        "result": texts.changed_many(texts.verb_for(change.name, change.state), change.changed, change.refused),
        "most": max(change.count.value, change.changed + change.refused, 1),
        "seen": change.changed + change.refused,
    }
