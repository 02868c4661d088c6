"""The workers: whether some run, serve every queue and run this release; and the release of the web processes."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from jobs import conf
from jobs.broker.times import UNSEEN
from jobs.doctor.finding import Finding, Severity, first_of, manage, some
from jobs.inspection import version, workers

LATE = 1.0  # seconds that an event loop was blocked


def findings() -> Iterator[Finding]:
    """Report workers that are missing, silent, RQ's own, or of another release."""
    listed = workers.listed(jobs=0)
    alive = [each for each in listed if each.silence() <= UNSEEN]
    if silent := sorted((each for each in listed if each not in alive), key=lambda each: each.silence()):
        yield Finding(
            Severity.WARNING,
            f"{_named(silent)} {'has' if len(silent) == 1 else 'have'} not been heard of for "
            f"{silent[-1].silence():.0f} s{'.' if len(silent) == 1 else ' at most.'}",
            "Such a worker is dead or cut off; its jobs go to others.",
            f"{'Look at its machine and its log' if len(silent) == 1 else 'Look at their machines and logs'}: "
            f"{_hosts(silent)}. Such a worker leaves the list by itself.",
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
    yield from _late_loops([each for each in ours if each.loop_lag >= LATE])
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
    for unknown, same in _grouped(ours, lambda each: tuple(q for q in each.queues if q not in conf.queues())):
        if unknown:
            yield Finding(
                Severity.WARNING,
                f"{_named(same)} {'serves' if len(same) == 1 else 'serve'} {', '.join(map(repr, unknown))}, "
                "which this project does not have.",
                "It is of another release or another project, or this one lacks a queue.",
                f"The queues are: {', '.join(conf.queues())}. "
                f"Start {'it' if len(same) == 1 else 'them'} anew with these, or add the queue.",
            )


def _late_loops(late: list[workers.Worker]) -> Iterator[Finding]:
    if late:
        longest = max(each.loop_lag for each in late)
        yield Finding(
            Severity.WARNING,
            f"The event loop of {_named(late)[0].lower()}{_named(late)[1:]} was blocked for {longest:.1f} s.",
            "All async commands of a process share its loop: none of them went on meanwhile.",
            f"The log names the command and the line: {_hosts(late)}. Call what blocks by sync_to_async.",
        )


def _foreign(others: list[workers.Worker]) -> Iterator[Finding]:
    for queues, same in _grouped(others, lambda each: tuple(each.queues)):
        if any(name in conf.queues() for name in queues):
            yield Finding(
                Severity.ERROR,
                f"{_named(same)} on {_hosts(same)} {'is' if len(same) == 1 else 'are'} RQ's own, not this package's.",
                "Such a worker runs a command at best once: retries, requeues and discards are failures to it.",
                f"{'Stop it, and start in its' if len(same) == 1 else 'Stop them, and start in their'} place: "
                f"{manage('rqworker', *queues)}",
            )


def _grouped(
    each_of: Iterable[workers.Worker], cause: Callable[[workers.Worker], tuple[str, ...]]
) -> Iterator[tuple[tuple[str, ...], list[workers.Worker]]]:
    """Return the workers by their cause: one finding for each cause, however many workers have it."""
    groups: defaultdict[tuple[str, ...], list[workers.Worker]] = defaultdict(list)
    for each in each_of:
        groups[cause(each)].append(each)
    return iter(groups.items())


def _named(same: list[workers.Worker]) -> str:
    if len(same) == 1:
        return f"The worker {same[0].name}"
    return f"{len(same):,} workers ({first_of(each.name for each in same)})"


def _hosts(same: list[workers.Worker]) -> str:
    return first_of(dict.fromkeys(each.hostname or "an unknown machine" for each in same))


def _versions(run: tuple[str, str], versions: dict[str, str], why: str, mend: str) -> Iterator[Finding]:
    """Report processes that run another code version than this one; `versions` by process name."""
    here = version.code_version()
    for other in sorted({*versions.values()} - {here}):
        names = [name for name, run_by in versions.items() if run_by == other]
        yield Finding(
            Severity.WARNING,
            f"{some(len(names), *run)} the code version {other!r}, here it is {here!r}: {first_of(names)}.",
            why,
            mend,
        )
