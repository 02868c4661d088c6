"""Edit and retry: a form with the arguments of a job, whose answer is a new job by the command's own `defer`."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from jobs import queues
from jobs.client.context import capture, restored
from jobs.client.new_job import new_job
from jobs.dashboard.navigation import address
from jobs.dashboard.permissions import may
from jobs.dashboard.wrappers import Done, Screen
from jobs.errors import ChangeRefusedError, JobsError
from jobs.inspection import find
from jobs.job import MandateJob
from jobs.record import arguments, display, registry

LARGEST = 64 * 1_024  # bytes of a payload that a form holds
ENGINE = "jobs."  # commands of the engine: what they change needs rights of its own
PREFIX = "field-"
ABSENT = object()  # the value of a field that was left to its default


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the form. `kind`: text, switch, record, json, or kept (hidden by JOBS["FILTERED_FIELDS"])."""

    name: str
    kind: str
    type: str
    encoded: Any  # the old value in its JSON form, or ABSENT
    text: str  # as the form shows it
    error: str = ""

    @property
    def is_long(self) -> bool:
        return len(self.text) > 60 or "\n" in self.text


def can_edit(command: str, job: MandateJob) -> bool:
    """Return whether the arguments of a job can be edited: those of a known command, that may be shown."""
    is_open = display.call_fields(command) is not None and not command.startswith(ENGINE)
    return is_open and 0 < len(job.data) <= LARGEST


def edit(request: HttpRequest, job_id: str) -> Screen:
    """The form; with POST, the difference, and a button that makes the job. Http404 for a job that has no such form."""
    if not may(request, "retry"):
        raise PermissionDenied
    job, command, fields = _of(job_id)
    changes, problem = None, ""
    if request.method == "POST":
        fields, values = _filled(fields, request.POST)
        if not any(field.error for field in fields):
            try:
                _bound(command, values)
                changes = _changes(fields, values)
            except (JobsError, TypeError, ValueError) as error:
                problem = str(error)
    return "edit", {
        "title": _("Edit and retry %(command)s") % {"command": job.command_name},
        "id": job_id,
        "queue": job.origin,
        "fields": fields,
        "changes": changes,
        "refused": problem,
        "kept": [(name, value) for name, value in request.POST.items() if name.startswith(PREFIX)],
    }


def make(request: HttpRequest, job_id: str) -> Done:
    """Enqueue the edited job, in the context of the old one."""
    job, command, fields = _of(job_id)
    fields, values = _filled(fields, request.POST)
    if wrong := [f"{field.name}: {field.error}" for field in fields if field.error]:
        raise ChangeRefusedError(" ".join(wrong))
    context: Any = job.connection.hget(job.key, "context")
    try:
        # Not in the language and the zone of who edits it.
        with translation.override(settings.LANGUAGE_CODE), timezone.override(None), restored(context or b"{}"):
            queue = queues.check(job.origin)
            new = new_job(command, (), values, queue=queue, context=capture())
            new = new._replace(fields=(*new.fields, "edited_from", job_id), collapse=None)  # a person wants it now
            (made,) = queues.push([new])
    except (TypeError, ValueError) as error:
        raise ChangeRefusedError(str(error)) from error
    names = {"id": job_id, "new": made.id}
    if made.duplicate:
        return Done(_("Job %(new)s is unfinished, and has the same arguments: no job was made.") % names)
    return Done(_("Job %(new)s was made from job %(id)s.") % names, address(request, "jobs_job", made.id))


def _of(job_id: str) -> tuple[MandateJob, Any, list[Field]]:
    """Return the job, its command and the fields of its form."""
    job = find(job_id)
    if job is None:
        raise Http404(_("There is no record of job %(id)s any more.") % {"id": job_id})
    try:
        name, *args = job.args
        if job.command_name is None or not can_edit(name, job):
            raise LookupError
        command: Any = registry.get(name)
        taken = [field for field in dataclasses.fields(command) if field.init]
        given = dict(zip([field.name for field in taken if not field.kw_only], args, strict=False)) | job.kwargs
        if len(args) > len(taken) or given.keys() - {field.name for field in taken}:
            raise LookupError
    except Exception:  # an unreadable payload, too
        raise Http404(_("The arguments of job %(id)s cannot be edited.") % {"id": job_id}) from None
    return job, command, [_field(field, given.get(field.name, ABSENT)) for field in taken]


def _field(field: Any, encoded: Any) -> Field:
    wanted = field.type.__name__ if isinstance(field.type, type) else str(field.type)
    if display.hides(field.name):
        return Field(field.name, "kept", wanted, encoded, display.FILTERED)
    if encoded is ABSENT:
        return Field(field.name, "text" if wanted == "str" else "json", wanted, encoded, "")
    if isinstance(encoded, dict) and encoded.keys() == {"$record"}:
        return Field(field.name, "record", wanted, encoded, str(encoded["$record"]))
    if type(encoded) is str:
        return Field(field.name, "text", wanted, encoded, encoded)
    if type(encoded) is bool and wanted == "bool":
        return Field(field.name, "switch", wanted, encoded, str(encoded).lower())
    return Field(field.name, "json", wanted, encoded, orjson.dumps(encoded).decode())


def _filled(fields: Sequence[Field], posted: Mapping[str, Any]) -> tuple[list[Field], dict[str, Any]]:
    """Return the fields as they were filled in, each with its error, and the values to pass to `defer`."""
    filled, values = [], {}
    for field in fields:
        text = str(posted.get(PREFIX + field.name, field.text)).replace("\r\n", "\n")
        error = ""
        try:
            encoded = _encoded(field, text)
            if encoded is not ABSENT:
                values[field.name] = arguments.decode(encoded)
        except ValueError:
            error = _('%(text)r is not valid JSON. Write it as in a payload: 7, "a text", [1, 2], null.') % {
                "text": text
            }
        except Exception as problem:  # a record that is gone, a tag that is none
            error = str(problem)
        filled.append(dataclasses.replace(field, text=text, error=error))
    return filled, values


def _encoded(field: Field, text: str) -> Any:
    if field.kind == "kept" or (field.encoded is ABSENT and not text):
        return field.encoded
    if field.kind == "text":
        return text
    return {"$record": text} if field.kind == "record" else orjson.loads(text)


def _bound(command: Any, values: Mapping[str, Any]) -> None:
    """Check the values as `defer` does. Raises what it raises."""
    new_job(command, (), values, queue=command.queue)


def _changes(fields: Sequence[Field], values: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, old and new value of each field that differs."""
    changes = []
    for field in fields:
        new = arguments.encode(values[field.name]) if field.name in values else ABSENT
        if field.kind != "kept" and new != field.encoded:
            shown = (
                _("default") if each is ABSENT else display.named(field.name, each) for each in (field.encoded, new)
            )
            changes.append((field.name, *shown))
    return changes  # type: ignore[return-value]
