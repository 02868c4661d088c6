"""One job: what it is, all that has happened to it, and what it is linked with."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from django.apps import apps
from django.http import Http404, HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from rq.defaults import RQ_KEY_PREFIX
from rq.utils import as_text

from jobs import arguments, conf, logs, registry
from jobs.dashboard.access import Screen, may
from jobs.dashboard.lists import ACTIONS
from jobs.errors import JobsError
from jobs.inspection import find
from jobs.job import JobState, MandateJob

PAYLOAD_SHOWN = 20_000  # characters


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
        raise Http404(f"There is no record of job {job_id}.")
    state, known = found.state, _fields(found)
    attempts = [
        {
            "started": result.execution_started_at,
            "ended": result.execution_ended_at or result.created_at,
            "worker": result.worker_name,
            "traceback": result.exc_string or "",
            "kind": result.type.name.lower(),
        }
        for result in _results(found)
        if result.exc_string
    ]
    return "job", {
        "title": f"Job {job_id}",
        "job": found,
        "id": job_id,
        "state": state,
        "description": found.description,
        "command": _command(found),
        "queue": found.origin,
        "known": known,
        "reason": found.reason,
        "arguments": _arguments(found),
        "history": found.history,
        "attempts": attempts,
        "progress": found.progress,
        "prerequisites": found.prerequisites,
        "dependents": sorted(found.dependents),
        "log": found.call_log,
        "actions": ACTIONS.get(state, ()) if state else (),
        "queues": list(conf.queues()),
        "payload": _payload(found) if may(request, "payloads") else None,
        "can_move": state is JobState.QUEUED,
        "due": _due(found) if state in (JobState.SCHEDULED, JobState.RETRYING) else None,
        "can_copy": _is_registered(_command(found)),
    }


def _due(job: MandateJob) -> datetime | None:
    score: Any = job.connection.zscore(f"{RQ_KEY_PREFIX}:scheduled:{job.origin}", job.id)
    return None if score is None else timezone.localtime(datetime.fromtimestamp(score, UTC))


def _is_registered(name: str) -> bool:
    try:
        return bool(registry.get(name))
    except JobsError:
        return False


def _fields(job: MandateJob) -> dict[str, Any]:
    names: tuple[str, ...] = (
        "created_at",
        "enqueued_at",
        "started_at",
        "ended_at",
        "worker_name",
        "timeout",
        "result_ttl",
    )
    names += ("interrupted_by", "expires_at", "due", "schedule", "unique", "context")
    values: Any = job.connection.hmget(job.key, *names)
    return {name: as_text(value) for name, value in zip(names, values, strict=True) if value}


def _results(job: MandateJob) -> list[Any]:
    try:
        return list(job.results())
    except Exception:  # one that RQ cannot read
        return []


def _command(job: MandateJob) -> str:
    try:
        return job.command_name or str(job.func_name)
    except Exception:
        return ""


def _arguments(job: MandateJob) -> list[Argument] | None:
    """Its arguments; None where they are private or cannot be read."""
    try:
        if job.command_name is None:
            return [Argument("", repr(value)[:500]) for value in (*job.args, *job.kwargs.items())]
        name, *args = job.args
        if logs.shown(name, [], {}).endswith("(...)"):
            return None
        fields = _field_names(name)
        named = [*zip(fields, args, strict=False), *((f"{n}", a) for n, a in enumerate(args[len(fields) :]))]
        return [_argument(field, value) for field, value in (*named, *job.kwargs.items())]
    except Exception:
        return None


def _field_names(name: str) -> list[str]:
    try:
        return list(getattr(registry.get(name), "__dataclass_fields__", {}))
    except JobsError:
        return []


def _argument(name: str, value: Any) -> Argument:
    if name in conf.get("FILTERED_FIELDS"):
        return Argument(name, arguments.FILTERED)
    shown = arguments.show(value)
    text = shown if len(shown) <= 500 else f"{shown[:500]}... ({len(shown):,} characters)"
    if isinstance(value, dict) and "$record" in value:
        label, _, key = value["$record"].partition(":")
        try:
            model = apps.get_model(label)
            url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[key])
            return Argument(name, text, url)
        except (LookupError, ValueError, NoReverseMatch):
            pass
    return Argument(name, text)


def _payload(job: MandateJob) -> str:
    try:
        text = orjson.dumps(orjson.loads(job.data), option=orjson.OPT_INDENT_2).decode()
    except Exception:
        text = repr(job.data)
    return text if len(text) <= PAYLOAD_SHOWN else f"{text[:PAYLOAD_SHOWN]}\n... ({len(text):,} characters)"
