"""The handler that docs/howto/trace-and-report-errors.md gives, as it stands there."""

import sentry_sdk

from jobs import MandateJob


def report(job: MandateJob, error: BaseException) -> None:
    """For JOBS["ON_DEAD"], or ["ON_FAILURE"]: send an error to Sentry, with the job that it ended."""
    with sentry_sdk.new_scope() as scope:
        scope.set_tag("command", job.command_name or job.func_name)
        scope.set_tag("queue", job.origin)
        scope.set_context("job", {"id": job.id, "attempts": job.progress.attempts + 1})
        sentry_sdk.capture_exception(error)
