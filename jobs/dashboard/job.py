"""One job: what it is, all that has happened to it, and what it is linked with."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.apps import apps
from django.http import Http404, HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from rq.utils import str_to_date

from jobs import conf
from jobs.attempts import profiles
from jobs.broker import keys
from jobs.broker.times import moment, time_of
from jobs.client import options
from jobs.dashboard import texts
from jobs.dashboard.lists import ACTIONS
from jobs.dashboard.navigation import came_from
from jobs.dashboard.permissions import may
from jobs.dashboard.wrappers import Screen
from jobs.errors import JobsError
from jobs.inspection import find, timeline
from jobs.inspection.timeline import Step
from jobs.job import JobState, MandateJob
from jobs.record import display, prerequisites, registry

LINKS = 50  # jobs that are linked
BRIEF = ("0", "1", "2", "3", "4", "5")  # seconds that a finished job is kept: its page is none to go on to


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument as it is shown: a reference links to its record's page."""

    name: str
    shown: str
    url: str = ""


def job(request: HttpRequest, job_id: str) -> Screen:
    """Everything about one job. Http404 when there is no record of it."""
    found = find(job_id)
    if found is None:
        told = _("There is no record of job %(id)s: it has finished and is forgotten, or was deleted.")
        raise Http404(told % {"id": job_id})
    state, command = found.state, _command(found)
    known = _fields(found)
    due = _due(found) if state in (JobState.SCHEDULED, JobState.RETRYING) else None
    if due:
        known["due"] = due
    context = known.get("context", b"")
    if context:
        known["context"] = display.context(context)
    is_marked, kept_for = bool(known.pop("profile", "")), known.pop("result_ttl", "")
    came = came_from(request)
    path = f"{request.path}?{urlencode({'list': came})}" if came else request.path
    listed = came or reverse("admin:jobs_list", args=[state.value if state else JobState.QUEUED.value])
    needed = needed_by(found)
    dependents, waiting = prerequisites.some_dependents(found.connection, job_id, LINKS)
    return (
        "job",
        {
            "title": _("Job %(id)s") % {"id": job_id},
            "path": path,  # it knows the list, however often the page is refreshed
            "list": listed,
            "after_run": listed if kept_for in BRIEF else path,
            "id": job_id,
            "state": state.value if state else "",
            "description": found.description,
            "command": command,
            "queue": found.origin,
            "known": known,
            "reason": found.reason,
            "arguments": _arguments(found),
            "options": _options(command),
            "timeline": [_in_the_readers_zone(step) for step in timeline.of(found)],
            "progress": found.progress,
            "prerequisites": needed[:LINKS],
            "needed": len(needed),
            "dependents": dependents,
            "waiting": waiting,
            "log": found.call_log,
            "actions": [(name, _label(name, state)) for name in ACTIONS.get(state, ())] if state else (),
            "queues": [name for name in conf.queues() if name != found.origin],
            "payload": display.payload(found.data, context) if may(request, "payloads") else None,
            "due": _as_field(due) if due else "",
            "profiles": profiles.of(found.connection, job_id),
            "can_profile": not is_marked and state not in (JobState.RUNNING, JobState.FINISHED),
            "can_copy": _is_registered(command),
        },
    )


def _in_the_readers_zone(step: Step) -> Step:
    """The time that it names as the page shows times: the history has "due 2026-11-25T11:31:49.708851Z"."""
    words, _, at = step.reason.rpartition(" ")
    due = time_of(at) if step.name in ("retried", "requeued", "rescheduled") else None
    if due is None:
        return step
    return replace(step, reason=f"{words} {date_format(timezone.localtime(due), 'd M H:i:s')}".lstrip())


def _label(name: str, state: JobState) -> str:
    if name == "run_now" and state in (JobState.WAITING, JobState.BLOCKED):
        return str(texts.NAMES["run_anyway"])
    return str(texts.NAMES["interrupt" if name == "cancel" and state is JobState.RUNNING else name])


def needed_by(job: MandateJob) -> list[str]:
    """The ids of its prerequisites, if they can be read."""
    try:
        return [str(each) for each in job.prerequisites]
    except (ValueError, TypeError):  # tampered with
        return []


def _options(command: str) -> list[tuple[str, str]]:
    """The options of its command, as the class has them; the options that a plain RQ job has are in its record."""
    try:
        known = registry.get(command)
    except JobsError:
        return []
    return [(name, _option(getattr(known, name))) for name in options.DEFAULTS]


def _option(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(each.__name__ if isinstance(each, type) else str(each) for each in value) or "-"
    return str(value)


def _due(job: MandateJob) -> datetime | None:
    """When it is due, if it has such a time."""
    score: Any = job.connection.zscore(keys.registry("scheduled", job.origin), job.id)
    return None if score is None else moment(score)


def _as_field(due: datetime) -> str:
    """
    A time in the reader's time zone, as a field for a time has it: without seconds that are 0, as the browser writes it
    (HTML, "valid normalized local date and time string"). Else each such time would look changed to the script, and the
    page would not refresh.
    """
    local = timezone.localtime(due).replace(tzinfo=None)
    return local.isoformat(timespec="seconds" if local.second else "minutes")


def _is_registered(name: str) -> bool:
    try:
        return bool(registry.get(name))
    except JobsError:
        return False


def _fields(job: MandateJob) -> dict[str, Any]:
    names: tuple[str, ...] = (
        "created_at",
        "enqueued_at",
        "interrupted_by",
        "expires_at",
        "due",
        "schedule",
        "unique",
        "context",
        "profile",
        "result_ttl",
    )
    values: Any = job.connection.hmget(job.key, *names)
    return {name: _field(name, value) for name, value in zip(names, values, strict=True) if value}


def _field(name: str, value: bytes) -> Any:
    text = value.decode(errors="replace")
    try:
        if name in ("expires_at", "due"):
            return moment(float(text))
        if name in ("created_at", "enqueued_at"):
            return str_to_date(value)
    except (ValueError, OverflowError):
        pass
    return value if name == "context" else text


def _command(job: MandateJob) -> str:
    try:
        return job.command_name or str(job.func_name)
    except Exception:
        return ""


def _arguments(job: MandateJob) -> list[Argument] | None:
    """Its arguments; None where they are private or cannot be read."""
    try:
        if job.command_name is None:
            return [Argument(*shown) for shown in display.plain_arguments(job.args, job.kwargs)]
        name, *args = job.args
        shown = display.arguments(name, args, job.kwargs)
        if shown is None:
            return None
        values = (*args, *job.kwargs.values())
        return [Argument(field, text, _url(field, each)) for (field, text), each in zip(shown, values, strict=True)]
    except Exception:
        return None


def _url(name: str, value: Any) -> str:
    """The admin's page of the record that an argument refers to; empty for what refers to none, or is hidden."""
    if not isinstance(value, dict) or "$record" not in value or display.hides(name):
        return ""
    try:
        label, _, key = value["$record"].partition(":")
        model = apps.get_model(label)
        return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[key])
    except (LookupError, ValueError, NoReverseMatch):
        return ""
