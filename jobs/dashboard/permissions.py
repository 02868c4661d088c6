"""The dashboard's permissions, by Django's own. Changes are written to the admin's log."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.http import HttpRequest

from jobs.inspection import activity
from jobs.inspection.activity import Change
from jobs.models import Dashboard

PERMISSIONS = {
    "view": "jobs.view_dashboard",
    "retry": "jobs.retry_job",
    "delete": "jobs.delete_job",
    "cancel": "jobs.cancel_job",
    "pause": "jobs.pause_queue",
    "workers": "jobs.control_workers",
    "payloads": "jobs.view_payloads",
    "activity": "jobs.view_activity",
}


class Can:
    """The user's permissions in templates: `{% if can.retry %}`."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request

    def __getitem__(self, what: str) -> bool:
        return may(self._request, what)


def may(request: HttpRequest, what: str) -> bool:
    """Return whether the user has the permission named `what` in PERMISSIONS."""
    return request.user.has_perm(PERMISSIONS[what])


def note(request: HttpRequest, done: str, change: Change | None = None, ids: Sequence[str] = (), **about: Any) -> None:
    """
    Write the change and its user to the admin's log; `about` names the job, queue, entry or worker. Keep it as
    activity, too: `change` as far as the action knows it, `ids` of the changed jobs.
    """
    subject = " ".join(str(value) for value in about.values()) or "jobs"
    LogEntry.objects.create(
        user_id=request.user.pk or 0,
        content_type_id=ContentType.objects.get_for_model(Dashboard).pk,
        object_id=subject[:200],
        object_repr=subject[:200],
        action_flag=CHANGE,
        change_message=done,
    )
    match = request.resolver_match
    what = match.url_name.split("_", 2)[-1] if match and match.url_name else ""
    queue = str(about.get("queue", ""))
    known = change or Change("", "", done, ids=ids)
    who, queue = request.user.get_username(), known.queue or queue
    known = replace(known, who=who, what=known.what or what, text=done, subject=subject, queue=queue)
    activity.record(known, [*ids, *([str(about["job_id"])] if "job_id" in about else [])])
