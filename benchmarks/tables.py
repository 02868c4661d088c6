"""A run as Markdown: a table a load, and one small table for all of it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from benchmarks import loads
from benchmarks.results import Row
from benchmarks.systems import SYSTEMS

US = "ours"
HOW_TO_READ = (
    '"ours is": how many times as good ours is as that system, more of a rate, less of a time or of memory. '
    "Under 1, that system is ahead."
)
TITLES = {system.name: system.title for system in SYSTEMS}


def details(rows: Sequence[Row]) -> str:
    """
    A table a load, the fastest first, each figure compared with ours; then one of what only one system did.

    "ours is" says how many times as good ours is: more of a rate, less of a time or of memory.
    """
    by_load: dict[tuple[str, int | None, str], list[Row]] = {}
    for row in rows:
        by_load.setdefault((row.load, row.processes, row.unit), []).append(row)
    tables = ["\n".join(_block(of_load)) for of_load in by_load.values() if len(of_load) > 1]
    if alone := [of_load[0] for of_load in by_load.values() if len(of_load) == 1]:
        tables.append("\n".join(_alone(alone)))
    return "\n\n".join([*tables, HOW_TO_READ])


def _heading(row: Row) -> str:
    return row.load + {1: ", one process", 2: ", two processes"}.get(row.processes or 0, "")


def _block(rows: list[Row]) -> Iterator[str]:
    unit = rows[0].unit
    more_is_better = unit == loads.JOBS_PER_SECOND
    us = next((row.median for row in rows if row.system == US), None)
    ordered = sorted(rows, key=lambda row: row.median, reverse=more_is_better)
    columns = {
        _heading(rows[0]): [TITLES[row.system] for row in ordered],
        unit: [number(row.median) for row in ordered],
        **_spread(ordered),
    }
    if us:
        times = [us / row.median if more_is_better else row.median / us for row in ordered if row.median]
        columns["ours is"] = [f"{ratio:.2f} x" if ratio < 10 else f"{number(ratio)} x" for ratio in times]
    return table(columns)


def _alone(rows: list[Row]) -> Iterator[str]:
    return table(
        {
            "one system alone": [_heading(row) for row in rows],
            "system": [TITLES[row.system] for row in rows],
            "median": [number(row.median) for row in rows],
            "unit": [row.unit for row in rows],
            **_spread(rows),
        }
    )


def _spread(rows: Sequence[Row]) -> dict[str, list[str]]:
    """How far the rounds differ, where there were several."""
    if all(row.runs == 1 for row in rows):
        return {}
    return {
        "min to max": [f"{number(row.min)} to {number(row.max)}" for row in rows],
        "runs": [str(row.runs) for row in rows],
    }


#: The columns of the compact table: a heading, and the loads and processes whose medians stand there.
COMPACT: dict[str, tuple[int | None, Sequence[str]]] = {
    "no-op jobs/s": (1, [loads.NOOP]),
    "two processes": (2, [loads.NOOP]),
    "enqueue /s": (None, [loads.ONE_AT_A_TIME]),
    "in bulk /s": (None, [loads.IN_BULK]),
    "50 ms I/O /s": (1, [loads.IO_JOBS]),
    "ORM read /s": (1, [loads.ORM_JOBS]),
    "2 ms away /s": (1, [loads.AWAY]),
    "due /s": (1, [loads.DUE]),
    "idle, ms": (1, [f"{loads.IDLE}, p50", f"{loads.IDLE}, p99"]),
    "backlog, ms": (1, [f"{loads.BEHIND}, p50", f"{loads.BEHIND}, p99"]),
    "memory, MB": (1, [loads.MEMORY]),
}


def compact(record: dict[str, Any]) -> str:
    """One line a system, for a page; and below, what was measured on what."""
    medians = {(row["system"], row["load"], row["processes"]): row["median"] for row in record["rows"]}
    measured = list(dict.fromkeys(row["system"] for row in record["rows"]))
    columns = {"": [TITLES[system] for system in measured]}
    for heading, (processes, names) in COMPACT.items():
        places = [[(system, load, processes) for load in names] for system in measured]
        cells = [" / ".join(number(medians[place]) for place in several if place in medians) for several in places]
        if any(cells):
            columns[heading] = cells
    lines = [*table(columns), ""] if len(columns) > 1 else []
    return "\n".join([*lines, caption(record)])


def caption(record: dict[str, Any]) -> str:
    """How to read the table, and where its figures come from."""
    machine, commit = record["machine"], record["commit"] or "unknown"
    rounds = "One small round (`--quick`): a look, no measurement" if record["quick"] else f"Rounds: {record['rounds']}"
    if record["stopped"]:
        rounds += ", stopped before the end"
    peers = dict.fromkeys(
        _with_version(TITLES[system].partition(",")[0], about)
        for system, about in record["systems"].items()
        if about["version"]
    )
    return (
        "Medians; of latencies p50 / p99, from the call that enqueues to the job's first line. Ours claims short jobs "
        "in batches and keeps no results, unless its line says otherwise. "
        f"{rounds}. {record['date'][:10]}, commit {commit[:10]}{'+' if commit.endswith('+') else ''}, "
        f"{machine['cores']} cores, {machine['server']}, Python {machine['python']}, "
        f"{record['threads']} threads a process; {', '.join(peers) or 'no peers'}."
    )


def _with_version(name: str, about: dict[str, str]) -> str:
    ruby = f" (Ruby {about['ruby']}, {about['driver']})" if "ruby" in about else ""
    return f"{name} {about['version']}{ruby}"


def table(columns: dict[str, list[str]]) -> Iterator[str]:
    """Lines of Markdown from columns by their headings; the first is set to the left, the others to the right."""
    widths = [max(map(len, (heading, *cells))) for heading, cells in columns.items()]

    def line(cells: Iterable[str]) -> str:
        first, *others = (
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join((first, *others))} |"

    yield line(columns)
    yield f"|{'-' * (widths[0] + 2)}|{'|'.join('-' * (width + 1) + ':' for width in widths[1:])}|"
    yield from (line(cells) for cells in zip(*columns.values(), strict=True))


def number(value: float) -> str:
    """Three digits that mean something; a spread shows how few of them do."""
    if value >= 999.5:
        return f"{round(value, 2 - len(str(int(value))) + 1):,.0f}"
    return f"{value:.3g}"
