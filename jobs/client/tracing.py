"""
OpenTelemetry spans for enqueueing and for attempts, linked across the queue. Off unless JOBS["TRACING"]; then nothing
here runs, and the API need not be installed.

Names and structure follow the semantic conventions for messaging (open-telemetry/semantic-conventions,
docs/messaging/messaging-spans.md, as of 2026-08, status "Development"): a `send` span of kind PRODUCER, whose context
travels with the job, and a `process` span of kind CONSUMER for each attempt, which links to it. A link and not a
parent, since a job may run days later, and many times.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import orjson
from django.core.exceptions import ImproperlyConfigured

from jobs import conf
from jobs.attempts.claim import Claim
from jobs.attempts.interrupt import Interruptible
from jobs.attempts.outcomes import Dead, Outcome, Retried
from jobs.queues import NewJob
from jobs.record import registry

SYSTEM = "rq"  # messaging.system: whose data model it is

is_on = False
UNTRACED = nullcontext(lambda jobs: None)

_Note = Callable[[Collection[NewJob]], None]
_Attempt = Callable[[Claim, Interruptible], tuple[Outcome, str]]


def set_up() -> None:
    """
    Switch it on or off, as JOBS["TRACING"] says; on start-up.

    Raises ImproperlyConfigured when it is to be on and OpenTelemetry's API is not installed.
    """
    global is_on
    is_on = bool(conf.get("TRACING"))
    if is_on:
        try:
            import opentelemetry.propagate
            import opentelemetry.trace  # noqa: F401
        except ImportError as error:
            raise ImproperlyConfigured(
                'JOBS["TRACING"] is on, but OpenTelemetry\'s API cannot be imported. Install opentelemetry-api.'
            ) from error


@contextmanager
def sending(command: type, queue: str) -> Iterator[_Note]:
    """A span around enqueueing. Gives a function that is told of the jobs, when they are known."""
    from opentelemetry.trace import SpanKind

    attributes = {**_about("send", queue), "jobs.command": registry.name_of(command)}
    with _tracer().start_as_current_span(f"send {queue}", kind=SpanKind.PRODUCER, attributes=attributes) as span:

        def note(jobs: Collection[NewJob]) -> None:
            if len(jobs) == 1:
                span.set_attribute("messaging.message.id", next(iter(jobs)).id)
            else:
                span.set_attribute("messaging.batch.message_count", len(jobs))

        yield note


def carried() -> dict[str, str]:
    """The calling thread's trace as it travels with a job, by the project's propagators; empty when there is none."""
    from opentelemetry import propagate

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier


def context() -> bytes:
    """A job's context with nothing in it but the calling thread's trace."""
    trace = carried()
    return orjson.dumps({"trace": trace}) if trace else b""


def traced(attempt: _Attempt) -> _Attempt:
    """A worker's way to make attempts, with a span around each."""

    def make(claim: Claim, thread: Interruptible) -> tuple[Outcome, str]:
        from opentelemetry.trace import SpanKind

        queue = claim.queue_name
        attributes = {**_about("process", queue), "messaging.message.id": claim.job_id}
        with _tracer().start_as_current_span(
            f"process {queue}", kind=SpanKind.CONSUMER, attributes=attributes, links=_links(claim)
        ) as span:
            outcome, command = attempt(claim, thread)
            span.set_attributes({"jobs.command": command, "jobs.outcome": type(outcome).__name__.lower()})
            if isinstance(outcome, Dead | Retried):
                _failed(span, outcome)
        return outcome, command

    return make


def flush() -> None:
    """Send what has not been sent: a worker's process ends without the interpreter's own end."""
    from opentelemetry import trace

    send = getattr(trace.get_tracer_provider(), "force_flush", None)  # the SDK's; the API alone has nothing to send
    if send is not None:
        send(5_000)  # milliseconds


def _tracer() -> Any:
    from opentelemetry import trace

    return trace.get_tracer("jobs")


def _about(operation: str, queue: str) -> dict[str, str]:
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": queue,
    }


def _links(claim: Claim) -> list[Any]:
    from opentelemetry import propagate, trace

    if not claim.more.context:
        return []
    try:
        carrier: Mapping[str, str] = orjson.loads(claim.more.context).get("trace", {})
        sent = trace.get_current_span(propagate.extract(carrier)).get_span_context()
    except Exception:  # a payload never stops a thread
        return []
    return [trace.Link(sent)] if sent.is_valid else []


def _failed(span: Any, outcome: Dead | Retried) -> None:
    from opentelemetry.trace import Status, StatusCode

    name, _, message = outcome.reason.partition(": ")
    span.set_attribute("error.type", name)
    span.set_status(Status(StatusCode.ERROR, outcome.reason))
    exception = {"exception.type": name, "exception.message": message, "exception.stacktrace": outcome.traceback}
    span.add_event("exception", exception)
