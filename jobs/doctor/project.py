"""The project's settings and commands: the package's system checks, which do not stop this command."""

from collections.abc import Iterator

from jobs import checks
from jobs.doctor.finding import Finding, Severity


def findings() -> Iterator[Finding]:
    """Report the errors of `manage.py check` on jobs, except for the servers, which `servers` examines."""
    for check in checks.ALL:
        if check is not checks.check_redis:
            for message in check(None):
                yield Finding(
                    Severity.ERROR if message.is_serious() else Severity.WARNING,
                    f"{message.msg} ({message.id})",
                    "Jobs are refused, or cannot be found by workers." if message.is_serious() else "It has no effect.",
                    message.hint or "python manage.py check",
                )
