"""
Decides what is a problem: what is above what is usual for this hour. Pure rules over figures, for the overview and the
doctor.

A problem ends by itself: when the last minutes are as usual, or when attempts succeed after the last failure.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt

from jobs.broker.times import MINUTE
from jobs.inspection.digests import Usual
from jobs.inspection.packed_counts import Row
from jobs.inspection.tallies import FAILED, Tally

WINDOW = 15  # minutes over which failures and run times are compared with what is usual
SHARED = 5  # minutes over which threads were shared between queues
FEWEST = 5  # failed attempts that are a problem
LEAST_PART = 0.1  # of all attempts that failed, from which they are a problem
UNKNOWN_PART = 0.5  # the same, where nothing is known to be usual
TIMES_USUAL = 2.0  # the usual part, above which failures are a problem; and the usual wait
DEVIATIONS = 3.0  # by which the failures exceed those to be expected
MENDED_BY = 3  # attempts that succeed after the last minute with a failure
SLOWER = 4.0  # times the usual 95th percentile; buckets of durations double, so less is no sign
SLOW = 0.5  # seconds below which nothing is slow
ENOUGH_ATTEMPTS = 10  # from which a run time is one
STARVED = 0.6  # of the time of the threads, spent on queues above

Minutes = Sequence[tuple[int, Sequence[Row]]]  # the start of each, and its attempts by queue and command


@dataclass(frozen=True, slots=True)
class Problem:
    """
    A problem of a command or a queue. `now` and `usual` are parts of all attempts, or seconds, as `kind` says; `usual`
    is None if nothing is known. `since`: the start of its first minute (seconds since the epoch). `errors`: how often
    each error class came up; `commands`: how often each command failed. `spark`: the last hour by the minute.
    """

    kind: str  # failures, retries, runtime, wait, starved
    queue: str = ""
    command: str = ""
    now: float = 0.0
    usual: float | None = None
    count: int = 0  # failed or slow attempts, or jobs that wait
    attempts: int = 0
    since: int | None = None
    errors: Counter[str] = field(default_factory=Counter)
    spark: tuple[float, ...] = ()
    threads: int = 0
    part_above: float = 0.0  # of the threads' time, spent on queues above

    @property
    def cause(self) -> tuple[str, float]:
        """The most frequent error class and its part of all, or "" and 0."""
        if not self.errors.total():
            return "", 0.0
        (name, count) = self.errors.most_common(1)[0]
        return name, count / self.errors.total()


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """What is known of a queue now. `spark`: its waits, if they are known."""

    name: str
    length: int
    wait: float  # seconds that its first job has waited
    target: float
    threads: int  # of the workers that serve it
    is_paused: bool = False


def of_commands(
    minutes: Minutes, usual: Mapping[str, Usual], errors: Mapping[str, Counter[str]], now: float
) -> list[Problem]:
    """
    Return the problems of the commands: failures, retries, run times. `minutes`: the last hour; `errors`: the error
    classes of the last minutes by command; `now`: seconds since the epoch.
    """
    problems: list[Problem] = []
    recent = _recent(minutes, now)
    suspects = {name for name, tally in recent.items() if _is_suspect(tally, usual.get(name, Usual()))}
    for command, series in _by_minute(minutes, suspects).items():
        known = usual.get(command, Usual())
        problem = _failing(command, recent[command], series, known, now)
        problem = problem or _slow(command, recent[command], series, known, now)
        if problem is not None:
            causes = errors.get(command, Counter()) if problem.kind != "runtime" else Counter()
            problems.append(replace(problem, queue=_queue_of(command, minutes), errors=causes))
    return sorted(problems, key=lambda problem: (problem.kind != "failures", problem.kind == "runtime", -problem.count))


def of_queues(queues: Iterable[QueueFigures], usual: Mapping[str, Usual], minutes: Minutes) -> list[Problem]:
    """
    Return the problems of the queues, in their order of priority: a first job that waits longer than its target and
    than is usual, and the reason if the threads were busy with queues above.
    """
    every, problems = list(queues), []
    spent = _seconds_by_queue(minutes[-SHARED:])
    for at, figures in enumerate(every):
        known = usual.get(figures.name)
        usually = known.wait if known else 0.0
        if figures.is_paused or not figures.threads or figures.wait <= max(figures.target, TIMES_USUAL * usually):
            continue
        above = sum(spent.get(each.name, 0.0) for each in every[:at])
        part = min(1.0, above / (figures.threads * SHARED * MINUTE))
        problems.append(
            Problem(
                kind="starved" if part >= STARVED else "wait",
                queue=figures.name,
                now=figures.wait,
                usual=usually if known else None,
                count=figures.length,
                threads=figures.threads,
                part_above=part,
            )
        )
    return problems


# --- one command -----------------------------------------------------------------------------


def is_above(failed: int, attempts: int, usual: float | None) -> bool:
    """
    Whether so many failures are more than usual: enough of them, a large part, and further from what is to be expected
    than chance explains. `usual`: the usual part, None if it is not known.
    """
    if failed < FEWEST or not attempts:
        return False
    part = failed / attempts
    if usual is None:
        return part >= UNKNOWN_PART
    expected = usual * attempts
    return part >= max(LEAST_PART, TIMES_USUAL * usual) and failed > expected + DEVIATIONS * sqrt(max(expected, 1.0))


def is_mended(series: Sequence[Tally]) -> bool:
    """Whether attempts have succeeded, and none failed, since the last minute with a failure."""
    since = next((at for at in range(len(series) - 1, -1, -1) if series[at].failed), None)
    after = series[since + 1 :] if since is not None else []
    return sum(tally.outcomes.get("finished", 0) for tally in after) >= MENDED_BY


def _is_suspect(recent: Tally, usual: Usual) -> bool:
    part = usual.failed if usual.is_known else None
    return is_above(recent.failed, recent.attempts, part) or _is_slow(recent, usual)


def _is_slow(recent: Tally, usual: Usual) -> bool:
    enough = usual.is_known and recent.attempts >= ENOUGH_ATTEMPTS
    return enough and recent.quantile(0.95) >= max(SLOW, SLOWER * usual.p95)


def _failing(command: str, recent: Tally, series: Mapping[int, Tally], usual: Usual, now: float) -> Problem | None:
    part = usual.failed if usual.is_known else None
    if not is_above(recent.failed, recent.attempts, part) or is_mended(_filled(series, now)):
        return None
    least = UNKNOWN_PART if part is None else max(LEAST_PART, TIMES_USUAL * part)
    dead, retried = (recent.outcomes.get(name, 0) for name in ("dead", "retried"))
    return Problem(
        kind="failures" if dead else "retries",
        command=command,
        now=recent.failed / recent.attempts,
        usual=part,
        count=dead + retried,
        attempts=recent.attempts,
        since=_since(series, now, lambda tally: tally.failed >= least * tally.attempts),
        spark=tuple(float(tally.failed) for tally in _filled(series, now)),
    )


def _slow(command: str, recent: Tally, series: Mapping[int, Tally], usual: Usual, now: float) -> Problem | None:
    if not _is_slow(recent, usual):
        return None
    return Problem(
        kind="runtime",
        command=command,
        now=recent.quantile(0.95),
        usual=usual.p95,
        count=recent.attempts,
        attempts=recent.attempts,
        since=_since(series, now, lambda tally: tally.quantile(0.95) >= max(SLOW, SLOWER * usual.p95)),
        spark=tuple(tally.quantile(0.95) for tally in _filled(series, now)),
    )


def _since(series: Mapping[int, Tally], now: float, is_bad: Callable[[Tally], bool]) -> int | None:
    """Return the start of the first of the bad minutes up to now; minutes without attempts are passed over."""
    since = None
    for start in sorted(series, reverse=True):
        if series[start].attempts and not is_bad(series[start]):
            if since is not None:
                break
            continue
        if series[start].attempts:
            since = start
    return since


def _filled(series: Mapping[int, Tally], now: float) -> list[Tally]:
    """Return the hour by the minute, with empty ones."""
    last = int(now) // MINUTE * MINUTE
    return [series.get(start, Tally()) for start in range(last - 59 * MINUTE, last + 1, MINUTE)]


# --- counts ----------------------------------------------------------------------------------


def _recent(minutes: Minutes, now: float) -> dict[str, Tally]:
    """Return the attempts of the last minutes by command."""
    found: dict[str, Tally] = {}
    for start, rows in minutes:
        if start > now - WINDOW * MINUTE:
            for _queue, command, outcomes, buckets in rows:
                if command not in found:
                    found[command] = Tally()
                found[command].add_all(outcomes, buckets)
    return found


def _by_minute(minutes: Minutes, commands: Collection[str]) -> dict[str, dict[int, Tally]]:
    """Return the attempts of these commands by the minute."""
    found: dict[str, dict[int, Tally]] = {name: {} for name in commands}
    for start, rows in minutes:
        for _queue, command, outcomes, buckets in rows:
            if command in found:
                series = found[command]
                if start not in series:
                    series[start] = Tally()
                series[start].add_all(outcomes, buckets)
    return found


def _queue_of(command: str, minutes: Minutes) -> str:
    """Return the queue in which most attempts of a command failed lately, or else ran."""
    failed: Counter[str] = Counter()
    for _start, rows in minutes[-WINDOW:]:
        for queue, name, outcomes, _buckets in rows:
            if name == command:
                failed[queue] += sum(outcomes.get(outcome, 0) for outcome in FAILED) or outcomes.get("finished", 0)
    return failed.most_common(1)[0][0] if failed else ""


def _seconds_by_queue(minutes: Minutes) -> dict[str, float]:
    spent: defaultdict[str, Tally] = defaultdict(Tally)
    for _start, rows in minutes:
        for queue, _command, outcomes, buckets in rows:
            spent[queue].add_all(outcomes, buckets)
    return {queue: tally.seconds for queue, tally in spent.items()}
