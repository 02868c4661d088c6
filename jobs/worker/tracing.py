"""
OpenTelemetry on the side that runs jobs: a `process` span for each attempt. It links to the span that sent the job: a
link and not a parent, because a job may run days later, and several times.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson

from jobs.attempts.claim import Claim
from jobs.attempts.interrupt import Interruptible
from jobs.attempts.loop_task import LoopTask
from jobs.attempts.outcomes import Dead, Ended, MakeAttempt, Retried
from jobs.client.tracing import about, tracer
from jobs.worker.loop import MakeTask


def traced(attempt: MakeAttempt) -> MakeAttempt:
    """Wrap a function that makes attempts, with a span around each."""

    def make(claim: Claim, thread: Interruptible) -> Ended:
        with _span(claim) as note:
            return note(attempt(claim, thread))

    return make


def traced_on_loop(attempt: MakeTask) -> MakeTask:
    """The same for a function that makes attempts as tasks of an event loop."""

    async def make(claim: Claim, task: LoopTask) -> Ended:
        with _span(claim) as note:
            return note(await attempt(claim, task))

    return make


@contextmanager
def _span(claim: Claim) -> Iterator[Callable[[Ended], Ended]]:
    """Record a span. Yields a function that notes how the attempt has ended, and returns that."""
    from opentelemetry.trace import SpanKind

    queue = claim.queue_name
    attributes = {**about("process", queue), "messaging.message.id": claim.job_id}
    with tracer().start_as_current_span(
        f"process {queue}", kind=SpanKind.CONSUMER, attributes=attributes, links=_links(claim)
    ) as span:

        def note(ended: Ended) -> Ended:
            outcome, command = ended
            span.set_attributes({"jobs.command": command, "jobs.outcome": type(outcome).__name__.lower()})
            if isinstance(outcome, Dead | Retried):
                _failed(span, outcome)
            return ended

        yield note


def flush() -> None:
    """Send the remaining spans: a worker's process ends without the interpreter's normal shutdown."""
    from opentelemetry import trace

    send = getattr(trace.get_tracer_provider(), "force_flush", None)  # the SDK's; the API alone has nothing to send
    if send is not None:
        send(5_000)  # milliseconds


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
