"""
Checks for problems of the project, the databases, the servers, the workers, the queues, the jobs and the schedule. Each
finding says what is wrong, why it matters, and what mends it.
"""

from collections.abc import Callable, Iterator

from jobs.doctor import batches, commands, databases, jobs, limits, outbox, project, queues, schedule, servers, workers
from jobs.doctor.finding import Finding, Severity

__all__ = ["Finding", "Severity", "examine"]


def examine() -> list[Finding]:
    """Return all findings, the worst first. Raises nothing: a failed examination is a finding, too."""
    collected = [*_examined(databases.findings), *_examined(project.findings)]
    unreachable = list(_examined(servers.reach))
    collected += unreachable
    if not unreachable:
        for module in (servers, workers, queues, commands, jobs, limits, batches, outbox, schedule):
            collected += _examined(module.findings)
    return sorted(collected, key=lambda finding: -finding.severity)


def _examined(findings: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from findings()
    except Exception as error:  # the other examinations still run
        what = findings.__module__.rpartition(".")[2]
        yield Finding(
            Severity.ERROR,
            f"The {what} could not be examined to the end: {type(error).__name__}: {error}",
            "What is not looked at may be wrong, too.",
            "Mend that, and look again.",
        )
