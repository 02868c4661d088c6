"""The tests' settings for workers that trace, and report to Sentry: into the files TRACES and REPORTS, a line each."""

import json
import os
from pathlib import Path

import sentry_sdk
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from sentry_sdk.integrations.logging import ignore_logger
from sentry_sdk.transport import Transport

from tests.settings import *  # noqa: F403
from tests.settings import JOBS


class FileTransport(Transport):
    """What would go to Sentry."""

    def capture_envelope(self, envelope):
        event = envelope.get_event()
        if event is not None:
            with Path(os.environ["REPORTS"]).open("a") as reports:
                reports.write(json.dumps(event, default=str) + "\n")


class LineExporter(ConsoleSpanExporter):
    """Opened at each export: a worker forks."""

    def __init__(self):
        super().__init__(formatter=lambda span: span.to_json(indent=None) + "\n")

    def export(self, spans):
        with Path(os.environ["TRACES"]).open("a") as self.out:
            return super().export(spans)


provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(LineExporter(), schedule_delay_millis=3_600_000))
trace.set_tracer_provider(provider)
sentry_sdk.init(dsn="https://key@sentry.invalid/1", transport=FileTransport)
ignore_logger("jobs")  # it logs what the handler reports

JOBS = JOBS | {"TRACING": True, "ON_DEAD": ["tests.sample.reporting.report"]}
