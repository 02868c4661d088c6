"""What `call` has returned, as it may be shown."""

from jobs.job import MandateJob
from jobs.record import display


def returned(job: MandateJob) -> str | None:
    """
    Return the readable form of a finished job's result, `[filtered]` if its arguments are private; None if nothing is
    kept.
    """
    try:
        result = job.latest_result()
        value = result.return_value if result else None
        return None if value is None else display.result(job.command_name or str(job.func_name), value)
    except Exception:  # RQ cannot read it
        return display.UNREADABLE
