"""The workers: whether some run, serve every queue and run this release; and the release of the web processes."""

from collections.abc import Iterator

from jobs import conf
from jobs.broker.times import UNSEEN
from jobs.doctor.finding import Finding, Severity, manage, some
from jobs.inspection import version, workers


def findings() -> Iterator[Finding]:
    """Report workers that are missing, silent, RQ's own, or of another release."""
    listed = workers.listed(jobs=0)
    alive = [each for each in listed if each.silence() <= UNSEEN]
    for each in listed:
        if each not in alive:
            yield Finding(
                Severity.WARNING,
                f"The worker {each.name} has not been heard of for {each.silence():.0f} s.",
                "It is dead or cut off; its jobs go to others.",
                "Look at its machine and its log. It leaves the list by itself.",
            )
    ours = [each for each in alive if each.is_ours]
    if not ours:
        yield Finding(
            Severity.ERROR,
            "No worker is running.",
            "Nothing is done, and nothing that is due is started.",
            manage("rqworker", *conf.queues()),
        )
    yield from _queues(ours)
    yield from _foreign([each for each in alive if not each.is_ours])
    yield from _versions(
        ("worker runs", "workers run"),
        {each.name: each.code_version or "of an older release" for each in ours},
        "What is enqueued here may not be what they know how to run.",
        "Wait for the deployment to end, or start the workers anew on this release.",
    )
    yield from _versions(
        ("web process runs", "web processes run"),
        version.published(),
        "What they enqueue may not be what workers know how to run.",
        f"Wait for the deployment to end, and {version.PUBLISHED_FOR} s more, or start them anew on this release.",
    )


def _queues(ours: list[workers.Worker]) -> Iterator[Finding]:
    served = {name for each in ours for name in each.queues}
    for name in conf.queues() if ours else ():
        if name not in served:
            yield Finding(
                Severity.ERROR,
                f"No worker serves the queue {name}.",
                "Its jobs wait for ever.",
                f"Add {name} to the queues of a worker: {manage('rqworker', name)}",
            )
    for each in ours:
        if unknown := [name for name in each.queues if name not in conf.queues()]:
            yield Finding(
                Severity.WARNING,
                f"The worker {each.name} serves {', '.join(map(repr, unknown))}, which this project does not have.",
                "It is of another release or another project, or this one lacks a queue.",
                f"The queues are: {', '.join(conf.queues())}. Start it anew with these, or add the queue.",
            )


def _foreign(others: list[workers.Worker]) -> Iterator[Finding]:
    for each in others:
        if any(name in conf.queues() for name in each.queues):
            yield Finding(
                Severity.ERROR,
                f"The worker {each.name} on {each.hostname or 'an unknown machine'} is RQ's own, not this package's.",
                "It runs a command at best once: retries, requeues and discards are failures to it.",
                f"Stop it, and start in its place: {manage('rqworker', *each.queues)}",
            )


def _versions(run: tuple[str, str], versions: dict[str, str], why: str, mend: str) -> Iterator[Finding]:
    """Report processes that run another code version than this one; `versions` by process name."""
    here = version.code_version()
    for other in sorted({*versions.values()} - {here}):
        names = [name for name, run_by in versions.items() if run_by == other]
        yield Finding(
            Severity.WARNING,
            f"{some(len(names), *run)} the code version {other!r}, here it is {here!r}: {', '.join(names[:5])}.",
            why,
            mend,
        )
