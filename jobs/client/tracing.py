"""
OpenTelemetry in the client: a `send` span around each `defer`, whose trace is sent with the job. Off unless
JOBS["TRACING"] is set; while off, nothing here runs, and OpenTelemetry's API need not be installed.

Names and structure follow the semantic conventions for messaging (open-telemetry/semantic-conventions,
docs/messaging/messaging-spans.md, as of 2026-08, status "Development"): a `send` span of kind PRODUCER here, and a
`process` span of kind CONSUMER for each attempt in `jobs.worker.tracing`.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import orjson
from django.core.exceptions import ImproperlyConfigured

from jobs import conf
from jobs.record import registry
from jobs.record.new_jobs import NewJob

SYSTEM = "rq"  # messaging.system: whose data model it is

is_on = False
UNTRACED = nullcontext(lambda jobs: None)

_Note = Callable[[Collection[NewJob]], None]


def set_up() -> None:
    """
    Switch tracing on or off by JOBS["TRACING"], on start-up.

    Raises ImproperlyConfigured if it is on and OpenTelemetry's API is not installed.
    """
    global is_on
    is_on = bool(conf.get("TRACING"))
    if is_on:
        try:
            import opentelemetry.propagate
            import opentelemetry.trace  # noqa: F401
        except ImportError as error:
            raise ImproperlyConfigured(
                'JOBS["TRACING"] is on, but OpenTelemetry\'s API cannot be imported. '
                "Install opentelemetry-api: pip install 'django-mandate[otel]'"
            ) from error


@contextmanager
def sending(command: type, queue: str) -> Iterator[_Note]:
    """Open a span around enqueueing. Yields a function that records the jobs in the span once they are built."""
    from opentelemetry.trace import SpanKind

    attributes = {**about("send", queue), "jobs.command": registry.name_of(command)}
    with tracer().start_as_current_span(f"send {queue}", kind=SpanKind.PRODUCER, attributes=attributes) as span:

        def note(jobs: Collection[NewJob]) -> None:
            if len(jobs) == 1:
                span.set_attribute("messaging.message.id", next(iter(jobs)).id)
            else:
                span.set_attribute("messaging.batch.message_count", len(jobs))

        yield note


def carried() -> dict[str, str]:
    """Return the calling thread's trace as it is sent with a job, by the project's propagators; empty without one."""
    from opentelemetry import propagate

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier


def context() -> bytes:
    """Return a context that contains only the calling thread's trace; empty without one."""
    trace = carried()
    return orjson.dumps({"trace": trace}) if trace else b""


def tracer() -> Any:
    from opentelemetry import trace

    return trace.get_tracer("jobs")


def about(operation: str, queue: str) -> dict[str, str]:
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": queue,
    }
