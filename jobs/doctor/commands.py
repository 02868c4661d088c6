"""The commands: whether they fail, are retried or take longer than is usual for this hour, by the overview's rules."""

from collections.abc import Iterator

from jobs import runtime
from jobs.broker.times import MINUTE, moment
from jobs.doctor.finding import Finding, Severity, manage
from jobs.inspection import attempt_counts, digests, error_counts, problems
from jobs.inspection.problems import Problem


def findings() -> Iterator[Finding]:
    """Report commands whose failures, retries or run times are above what is usual for this hour."""
    now = runtime.now()
    _by_queue, minutes = attempt_counts.last_hour()
    usual = digests.usual_now(now).commands
    errors = error_counts.by_command(problems.WINDOW * MINUTE)
    for problem in problems.of_commands(minutes, usual, errors, now):
        since = f" since {moment(problem.since):%d %b %H:%M} UTC" if problem.since else ""
        yield _slow(problem, since) if problem.kind == "runtime" else _failing(problem, since)


def _failing(problem: Problem, since: str) -> Finding:
    (error, part), window = problem.cause, problems.WINDOW
    usual = f", usually {problem.usual:.1%}" if problem.usual is not None else ""
    cause = f"; {part:.0%} {error}" if error else ""
    counted = f"{problem.now:.0%} of {problem.attempts:,} attempts in {window} min"
    return Finding(
        Severity.WARNING,
        f"{problem.command} fails{since}: {counted}{usual}{cause}.",
        "Its jobs are retried or die, and keep threads from other jobs.",
        f"Mend the cause; meanwhile {manage('jobs', 'pause', problem.queue)}." if problem.queue else "Mend the cause.",
    )


def _slow(problem: Problem, since: str) -> Finding:
    took, usual = f"{problem.now:.3g} s", f"{problem.usual or 0:.3g} s"
    return Finding(
        Severity.NOTE,
        f"{problem.command} is slow{since}: 95 % of its attempts take less than {took}, usually {usual}.",
        "It keeps threads busy for longer, and other jobs wait.",
        "Profile it: docs/howto/profile-a-job.md.",
    )
