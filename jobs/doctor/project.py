"""The project's settings and commands: the package's system checks, which this command does not demand."""

from collections.abc import Iterator

from jobs import checks
from jobs.doctor.finding import Finding, Severity


def look() -> Iterator[Finding]:
    """What `manage.py check` says of jobs. Servers are looked at elsewhere."""
    for check in checks.ALL:
        if check is not checks.check_redis:
            for message in check(None):
                yield Finding(
                    Severity.ERROR,
                    f"{message.msg} ({message.id})",
                    "Jobs are refused, or cannot be found by workers.",
                    message.hint or "python manage.py check",
                )
