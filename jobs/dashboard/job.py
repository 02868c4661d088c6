"""The page of one job: its details, its timeline, and the jobs that it is linked to."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.apps import apps
from django.contrib.admin.utils import quote
from django.http import Http404, HttpRequest
from django.urls import NoReverseMatch
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from rq.utils import str_to_date

from jobs import conf
from jobs.attempts import profiles
from jobs.broker import keys
from jobs.broker.times import as_text, moment, number_of, time_of
from jobs.client import options
from jobs.dashboard import dependencies, last_hour, texts, tracebacks, waterfall
from jobs.dashboard.activities import of_job
from jobs.dashboard.edit import can_edit
from jobs.dashboard.lists import ACTIONS
from jobs.dashboard.navigation import address, came_from
from jobs.dashboard.permissions import may
from jobs.dashboard.wrappers import Screen
from jobs.errors import JobsError
from jobs.inspection import find, job_steps, timeline
from jobs.inspection.results import returned
from jobs.inspection.timeline import Step
from jobs.job import JobState, MandateJob
from jobs.record import display, prerequisites, registry
from jobs.retries import Progress
from jobs.waits import reports

LINKS = 50  # linked jobs shown, in each direction
BRIEF = ("0", "1", "2", "3", "4", "5")  # values of `result_ttl`, in seconds, after which the page is soon gone


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument on the page: a reference links to the admin page of its record."""

    name: str
    shown: str
    url: str = ""


def job(request: HttpRequest, job_id: str) -> Screen:
    """The page of one job. Http404 if it has no record."""
    job = find(job_id)
    if job is None:
        text = _("There is no record of job %(id)s: it has finished and expired, or was deleted.") % {"id": job_id}
        changes = [f"{change.at:%Y-%m-%d %H:%M} UTC, {change.who}: {change.text}" for change in of_job(request, job_id)]
        raise Http404(" ".join([text, *changes[:3]]))
    state, command = job.state, _command(job)
    fields = _fields(job)
    due = _due(job) if state in (JobState.SCHEDULED, JobState.RETRYING) else None
    if due:
        fields["due"] = due
    context = fields.get("context", b"")
    if context:
        fields["context"] = display.context(context)
    is_marked, kept_for = bool(fields.pop("profile", "")), fields.pop("result_ttl", "")
    log = display.text(fields.pop("log", ""))
    came = came_from(request)
    path = f"{request.path}?{urlencode({'list': came})}" if came else request.path
    listed = came or address(request, "jobs_list", (state or JobState.QUEUED).value)
    needed = prerequisites.jobs_of(prerequisites.listed(fields.pop("prereqs", "")))
    dependents, waiting = prerequisites.some_dependents(job.connection, job_id, LINKS)
    named = (job_id, command, state)
    graph = dependencies.around(job.connection, job.origin, named, needed[:LINKS], dependents)
    steps, reason = timeline.of(job), None if state in (JobState.WAITING, JobState.BLOCKED) else job.reason
    if state is JobState.UNSENT:
        reason = _("Redis does not have this job: it waits for its commit, for Redis or for the relay.")
    failed = [(number, step) for number, step in enumerate(steps, 1) if step.traceback]
    running = _running(job, steps) if state is JobState.RUNNING else None
    return (
        "job",
        {
            "title": _("Job %(id)s") % {"id": job_id},
            "path": path,  # with the list's address, so that a refresh keeps it
            "list": listed,
            "after_run": listed if kept_for in BRIEF else path,
            "id": job_id,
            "state": state.value if state else "",
            "description": job.description,
            "command": command,
            "queue": job.origin,
            "fields": fields,
            "reason": reason,
            "arguments": _arguments(request, job),
            "returned": returned(job) if state is JobState.FINISHED else None,
            "report": reports.read(fields.pop("report", "")),
            "options": options_of(command),
            "last_hour": last_hour.of_command(command) if command else [],
            "timeline": steps,
            "lanes": waterfall.lanes([_in_local_time(step) for step in steps], state, timezone.now(), due),
            "tracebacks": [(number, step, tracebacks.parts(step.traceback)) for number, step in reversed(failed)],
            "running": running,
            "progress": _progress(state, fields.pop("attempts", ""), fields.pop("progress", "")),
            "prerequisites": needed[:LINKS],
            "needed": len(needed),
            "dependents": dependents,
            "waiting": waiting,
            "graph": graph,
            "drawing": dependencies.drawing(request, graph) if graph else "",
            "steps": job_steps.read(fields.pop("steps", "")),
            "can_begin_anew": state not in (None, JobState.RUNNING, JobState.FINISHED, JobState.UNSENT),
            "log": log,
            "actions": [(name, texts.button(name, state)) for name in ACTIONS.get(state, ())] if state else (),
            "queues": [name for name in conf.queues() if name != job.origin],
            "payload": display.payload(job.data, context) if may(request, "payloads") else None,
            "due": _as_field(due) if due else "",
            "profiles": profiles.of(job.connection, job_id),
            "can_profile": not is_marked and state not in (JobState.RUNNING, JobState.FINISHED, JobState.UNSENT),
            "activity": of_job(request, job_id),
            "can_copy": state is not JobState.UNSENT and _is_registered(command),
            "can_edit": state is not JobState.UNSENT and can_edit(command, job),
            "can_retry": state is not None and "retry" in ACTIONS[state],
        },
    )


@dataclass(frozen=True, slots=True)
class Running:
    """The attempt that runs: since when, on which worker, and its stack if it was asked for in the last minutes."""

    since: datetime
    worker: str
    stack: str


def _running(job: MandateJob, steps: Sequence[Step]) -> Running | None:
    last = next((step for step in reversed(steps) if step.is_attempt and step.name == "running"), None)
    if last is None:
        return None
    stacks: Any = job.connection.get(keys.stacks(last.worker)) if last.worker else b""
    parts = as_text(stacks or b"").split("\nThread ")
    mine = next((part for part in parts if f", job {job.id} in " in part.partition("\n")[0]), "")
    return Running(last.at, last.worker, display.text(mine and f"{parts[0].partition(chr(10))[0]}\n{mine}"))


def _in_local_time(step: Step) -> Step:
    """Return the step with the time in its reason formatted; the history has "due 2026-11-25T11:31:49.708851Z"."""
    words, _, at = step.reason.rpartition(" ")
    due = time_of(at) if step.name in ("retried", "requeued", "rescheduled") else None
    if due is None:
        return step
    return replace(step, reason=f"{words} {date_format(timezone.localtime(due), 'd M H:i:s')}".lstrip())


def options_of(command: str) -> list[tuple[str, str]]:
    """Return the options of the command's class; a plain RQ job has its options in its record."""
    try:
        cls = registry.get(command)
    except JobsError:
        return []
    return [(name, _option(getattr(cls, name))) for name in options.DEFAULTS]


def _option(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(each.__name__ if isinstance(each, type) else str(each) for each in value) or "-"
    return str(value)


def _due(job: MandateJob) -> datetime | None:
    """Return the time at which the job is due, or None."""
    score: Any = job.connection.zscore(keys.registry("scheduled", job.origin), job.id)
    return None if score is None else moment(score)


def _as_field(due: datetime) -> str:
    """
    Format a time in the user's time zone for a `datetime-local` field, without seconds if they are 0: the browser
    normalizes the value so (HTML, "valid normalized local date and time string"). Otherwise the script would take the
    field for changed, and the page would not refresh.
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
        "collapse",
        "latest",
        "context",
        "profile",
        "result_ttl",
        "attempts",
        "progress",
        "batch",
        "callback",
        "edited_from",
        "log",
        "prereqs",
        "steps",
        "report",
    )
    values: Any = job.connection.hmget(job.key, *names)
    return {name: _field(name, value) for name, value in zip(names, values, strict=True) if value}


def _progress(state: JobState | None, attempts: str, progress: str) -> Progress:
    """As `job.progress`, from fields that have been read."""
    try:
        if state is JobState.DEAD and attempts:
            return Progress(attempts=int(number_of(attempts)))
        return Progress.load(progress.encode())
    except ValueError:
        return Progress()


def _field(name: str, value: bytes) -> Any:
    text = value.decode(errors="replace")
    try:
        if name in ("expires_at", "due", "latest"):
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


def _arguments(request: HttpRequest, job: MandateJob) -> list[Argument] | None:
    """Return the job's arguments; None if they are private or cannot be read."""
    try:
        if job.command_name is None:
            return [Argument(*shown) for shown in display.plain_arguments(job.args, job.kwargs)]
        name, *args = job.args
        shown = display.arguments(name, args, job.kwargs)
        if shown is None:
            return None
        values = (*args, *job.kwargs.values())
        return [
            Argument(field, text, _url(request, field, each)) for (field, text), each in zip(shown, values, strict=True)
        ]
    except Exception:
        return None


def _url(request: HttpRequest, name: str, value: Any) -> str:
    """
    Return the page of the record that an argument refers to, on the same admin site. Return "" if it has none there,
    is hidden, or is no record.
    """
    if not isinstance(value, dict) or "$record" not in value or display.hides(name):
        return ""
    try:
        label, _, key = value["$record"].partition(":")
        model = apps.get_model(label)
        return address(request, f"{model._meta.app_label}_{model._meta.model_name}_change", quote(key))
    except (LookupError, ValueError, NoReverseMatch):
        return ""
