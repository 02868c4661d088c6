"""
What is wrong, found without a person looking: of the project, the databases, the servers, the workers, the queues, the
jobs, the schedule. Each finding says what, why it matters, and what mends it.
"""

from collections.abc import Callable, Iterator

from jobs.doctor import databases, jobs, project, queues, schedule, servers, workers
from jobs.doctor.finding import Finding, Severity

__all__ = ["Finding", "Severity", "examine"]


def examine() -> list[Finding]:
    """Everything that is wrong now, the worst first. Raises nothing: what cannot be examined is a finding."""
    found = [*_looked(databases.look), *_looked(project.look)]
    unreachable = list(_looked(servers.reach))
    found += unreachable
    if not unreachable:
        for look in (servers.look, workers.look, queues.look, jobs.look, schedule.look):
            found += _looked(look)
    return sorted(found, key=lambda finding: -finding.severity)


def _looked(look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except Exception as error:  # whatever is broken, the others are looked at
        what = look.__module__.rpartition(".")[2]
        yield Finding(
            Severity.ERROR,
            f"The {what} could not be examined to the end: {type(error).__name__}: {error}",
            "What is not looked at may be wrong, too.",
            "Mend that, and look again.",
        )
