"""The limits: whether the jobs that wait for them move."""

from collections.abc import Iterator

from jobs.broker.times import HOUR
from jobs.doctor.finding import Finding, Severity, manage, some
from jobs.limits.usage import Usage, usage

STUCK = 60  # seconds for which nothing has been woken although there is room


def findings() -> Iterator[Finding]:
    """Report limits with room for which jobs wait, lanes older than an hour, and paused limits with jobs that wait."""
    for each in usage():
        if each.waiting and each.is_paused:
            yield Finding(
                Severity.WARNING,
                f"The limit {each.id} is paused, and {some(each.waiting, 'job waits', 'jobs wait')} for it.",
                "They wait until somebody resumes it.",
                manage("jobs", "limits", "resume", each.id),
            )
            continue
        yield from _stuck(each)


def _stuck(each: Usage) -> Iterator[Finding]:
    for place in each.places:
        idle = not each.per and len(place.holders) < each.n and place.value not in each.paused_values
        wait = each.wait_of(place)
        if idle and place.waiting and wait > STUCK and not place.is_woken:
            yield Finding(
                Severity.ERROR,
                f"The limit {each.id} has room for {place.value or 'all'}, and {place.waiting} wait for it.",
                "The first of them should have been woken.",
                "Start a worker: its parent wakes lanes. If one runs, look for errors in its log.",
            )
        elif place.waiting and wait > HOUR:
            held = f" Its slots are owned by {', '.join(place.holders[:3])}." if place.holders else ""
            yield Finding(
                Severity.WARNING,
                f"{some(place.waiting, 'job waits', 'jobs wait')} for the limit {each.id} of {place.value or 'all'}, "
                f"since {wait / HOUR:.1f} h.",
                f"More is deferred than the limit admits, or a job holds it for long.{held}",
                manage("jobs", "limits", "set", each.id, "--n", str(each.n + 1)),
            )
