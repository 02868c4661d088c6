"""Spans for enqueueing and attempts, linked across the queue; and errors on their way to Sentry. No network."""

import json
import subprocess
import sys

import django_rq
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from jobs import execution
from jobs.broker.connections import get_connection
from jobs.client import tracing
from jobs.worker import attempt
from jobs.worker.tracing import traced
from tests.processes import ROOT
from tests.sample import functions, tasks
from tests.sample.commands.limits import DeferWithContext, TellContext
from tests.sample.commands.notes import Fail, WriteNote

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def spans(settings, monkeypatch):
    """Switch tracing on. Returns a function that returns the ended spans by name."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    monkeypatch.setattr(tracing, "is_on", False)
    settings.JOBS = {**settings.JOBS, "TRACING": True}
    tracing.set_up()
    monkeypatch.setattr(execution, "attempt", traced(execution.attempt))  # as a worker's threads have it
    yield lambda: {span.name: span for span in exporter.get_finished_spans()}
    provider.shutdown()


def attributes(span):
    return dict(span.attributes)


def test_enqueueing_and_the_attempt_are_spans_and_the_attempt_links_to_it(spans, worker):
    with trace.get_tracer("page").start_as_current_span("GET /"):
        job = WriteNote.defer("x")
    worker.run()
    page, sent, processed = (spans()[name] for name in ("GET /", "send default", "process default"))

    assert (sent.kind, processed.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert sent.parent.span_id == page.context.span_id
    assert [link.context.span_id for link in processed.links] == [sent.context.span_id]
    assert processed.parent is None
    about = {"messaging.system": "rq", "messaging.destination.name": "default", "messaging.message.id": job.id}
    about |= {"jobs.command": "sample.WriteNote"}
    assert attributes(sent) == about | {"messaging.operation.name": "send", "messaging.operation.type": "send"}
    assert attributes(processed) == about | {
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "jobs.outcome": "finished",
    }


def test_a_failed_attempt_says_how(spans, worker):
    Fail.defer("as planned")
    worker.run()
    span = spans()["process default"]

    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes["error.type"], span.attributes["jobs.outcome"]) == ("RuntimeError", "dead")
    (event,) = span.events
    assert event.attributes["exception.message"] == "as planned"
    assert "in call" in event.attributes["exception.stacktrace"]


def test_many_jobs_are_one_span_to_which_each_attempt_links(spans, worker):
    WriteNote.defer_many([("a",), ("b",)], queue="low")
    processed = []
    worker.step()
    processed.append(spans()["process low"])
    worker.step()
    processed.append(spans()["process low"])

    sent = spans()["send low"]
    assert sent.attributes["messaging.batch.message_count"] == 2
    assert {link.context.span_id for span in processed for link in span.links} == {sent.context.span_id}
    assert processed[0].context.trace_id != processed[1].context.trace_id


def test_what_a_job_does_is_inside_its_span_and_jobs_that_it_defers_link_to_that(spans, worker):
    DeferWithContext.defer()
    worker.run()
    found = spans()

    assert found["send default"].attributes["jobs.command"] == "sample.TellContext"
    inner = found["send default"].context
    assert [link.context.span_id for link in found["process default"].links] == [inner.span_id]


def test_the_projects_own_values_and_the_trace_travel_together(spans, worker):
    with TellContext.context(request_id="7f3a"):
        job = TellContext.defer()
    worker.run()

    assert job.return_value()[2] == "7f3a"
    assert len(spans()["process default"].links) == 1


def test_a_task_of_djangos_own_links_too(spans, worker):
    result = tasks.add.enqueue(2, 3)
    worker.run()

    sent, processed = spans()["send default"], spans()["process default"]
    assert sent.attributes["messaging.message.id"] == result.id
    assert [link.context.span_id for link in processed.links] == [sent.context.span_id]


def test_a_rolled_back_job_is_not_sent(spans, places):
    with transaction.atomic():
        WriteNote.defer("x")
        transaction.set_rollback(True)

    assert places() == {}


@pytest.mark.parametrize("context", [b'{"trace": "no carrier"}', b'{"trace": {"traceparent": "00-0-0-00"}}', b"[]"])
def test_a_trace_that_cannot_be_read_stops_nothing(context, spans, worker):
    job = WriteNote.defer("x")
    get_connection("default").hset(job.key, "context", context)
    worker.run()

    assert spans()["process default"].links == ()


# --- off -------------------------------------------------------------------------------------


def test_with_tracing_off_no_trace_is_sent_and_no_span_is_opened():
    job = WriteNote.defer("x")

    assert not tracing.is_on
    assert not get_connection("default").hexists(job.key, "context")
    assert attempt.maker("w", lambda claim: None).__module__ == "jobs.worker.attempt"


def test_with_tracing_off_the_api_need_not_be_installed():
    code = "import sys; sys.modules['opentelemetry'] = None; import django; django.setup(); import jobs.worker.child"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_with_tracing_on_a_missing_api_is_refused_naming_the_package(settings, monkeypatch):
    settings.JOBS = {**settings.JOBS, "TRACING": True}
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    monkeypatch.setattr(tracing, "is_on", False)

    with pytest.raises(ImproperlyConfigured, match="Install opentelemetry-api"):
        tracing.set_up()


# --- a real worker ---------------------------------------------------------------------------


@pytest.mark.processes
def test_a_worker_process_sends_its_spans_and_reports_to_sentry(worker_process, tmp_path):
    Fail.defer("as planned")
    django_rq.get_queue("default").enqueue(functions.add, 2, 3)
    traces, reports = tmp_path / "traces", tmp_path / "reports"
    settings = {"DJANGO_SETTINGS_MODULE": "tests.observed", "TRACES": str(traces), "REPORTS": str(reports)}

    worker = worker_process("default", burst=True, env=settings)

    assert worker.wait() == 0, worker.output
    found = [json.loads(line) for line in traces.read_text().splitlines()]
    assert {(span["kind"], span["attributes"]["jobs.command"]) for span in found} == {
        ("SpanKind.CONSUMER", "sample.Fail"),
        ("SpanKind.CONSUMER", "tests.sample.functions.add"),
    }
    (event,) = [json.loads(line) for line in reports.read_text().splitlines()]
    assert (event["tags"]["command"], event["tags"]["queue"]) == ("sample.Fail", "default")
    assert event["contexts"]["job"]["attempts"] == 1
    (exception,) = event["exception"]["values"]
    assert (exception["type"], exception["value"]) == ("RuntimeError", "as planned")
    assert exception["stacktrace"]["frames"][-1]["function"] == "call"
