"""A run as Markdown: a table a load, and one small table for all of it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from benchmarks import loads
from benchmarks.systems import TITLES

HOW_TO_READ = (
    "The ratio says how many times as good the first is as the second, more of a rate, less of a time or of memory: "
    "the median of the pairs, with the lowest and the highest. Under 1, the second is ahead."
)


def details(record: dict[str, Any]) -> str:
    """A table a pair of systems, one line a load; then one of what only one system did."""
    by_pair: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for comparison in record["comparisons"]:
        by_pair.setdefault((comparison["first"], comparison["second"]), []).append(comparison)
    tables = ["\n".join(_pair(*pair, lines)) for pair, lines in by_pair.items()]
    if tables:
        tables.append(HOW_TO_READ)
    paired = {(side["load"], side["processes"]) for side in record["comparisons"]}
    if alone := [row for row in record["rows"] if (row["load"], row["processes"]) not in paired]:
        tables.append("\n".join(_alone(alone)))
    return "\n\n".join(tables)


def _heading(row: dict[str, Any]) -> str:
    return str(row["load"]) + {1: ", one process", 2: ", two processes"}.get(row["processes"] or 0, "")


def _pair(first: str, second: str, lines: list[dict[str, Any]]) -> Iterator[str]:
    return table(
        {
            f"{TITLES[first]} : {TITLES[second]}": [_heading(line) for line in lines],
            TITLES[first]: [number(line["first_median"]) for line in lines],
            TITLES[second]: [number(line["second_median"]) for line in lines],
            "unit": [line["unit"] for line in lines],
            "ratio": [ratio(line["median"]) for line in lines],
            "lowest to highest": [f"{ratio(line['min'])} to {ratio(line['max'])}" for line in lines],
            "pairs": [str(line["pairs"]) for line in lines],
        }
    )


def _alone(rows: list[dict[str, Any]]) -> Iterator[str]:
    return table(
        {
            "without a pair": [_heading(row) for row in rows],
            "system": [TITLES[row["system"]] for row in rows],
            "median": [number(row["median"]) for row in rows],
            "unit": [row["unit"] for row in rows],
            "lowest to highest": [f"{number(row['min'])} to {number(row['max'])}" for row in rows],
            "runs": [str(row["runs"]) for row in rows],
        }
    )


#: The columns of the compact table: a heading, and the loads and processes whose medians stand there.
COMPACT: dict[str, tuple[int | None, Sequence[str]]] = {
    "no-op jobs/s": (1, [loads.NOOP]),
    "two processes": (2, [loads.NOOP]),
    "enqueue /s": (None, [loads.ONE_AT_A_TIME]),
    "in bulk /s": (None, [loads.IN_BULK]),
    "50 ms I/O /s": (1, [loads.IO_JOBS]),
    "ORM read /s": (1, [loads.ORM_JOBS]),
    "2 ms away /s": (1, [loads.AWAY]),
    "mixed /s": (1, [loads.MIXED]),
    "due /s": (1, [loads.DUE]),
    "idle, ms": (1, [f"{loads.IDLE}, p50", f"{loads.IDLE}, p99"]),
    "mixed, ms": (1, [f"{loads.STEADY}, p50", f"{loads.STEADY}, p99"]),
    "backlog, ms": (1, [f"{loads.BEHIND}, p50", f"{loads.BEHIND}, p99"]),
    "memory, MB": (1, [loads.MEMORY]),
}


def compact(record: dict[str, Any]) -> str:
    """For a page: the figures, one line a system; the ratios, one line a pair; and what was measured on what."""
    medians = {(row["system"], row["load"], row["processes"]): number(row["median"]) for row in record["rows"]}
    ratios = {(_title(side), side["load"], side["processes"]): _with_spread(side) for side in record["comparisons"]}
    titled = {(TITLES[system], *load): cell for (system, *load), cell in medians.items()}
    tables = ["\n".join(_compact("", titled)), "\n".join(_compact("ratios", ratios))]
    return "\n\n".join([*filter(None, tables), caption(record)])


def _title(comparison: dict[str, Any]) -> str:
    return f"{TITLES[comparison['first']]} : {TITLES[comparison['second']]}"


def _with_spread(comparison: dict[str, Any]) -> str:
    if comparison["pairs"] == 1:
        return ratio(comparison["median"])
    return f"{ratio(comparison['median'])} ({ratio(comparison['min'])} to {ratio(comparison['max'])})"


def _compact(corner: str, cells: dict[tuple[Any, ...], str]) -> Iterator[str]:
    """Cells by their line's title, load and processes, under the headings of COMPACT."""
    lines = list(dict.fromkeys(line for line, *_ in cells))
    columns = {corner: lines}
    for heading, (processes, names) in COMPACT.items():
        places = [[(line, load, processes) for load in names] for line in lines]
        column = [" / ".join(cells[place] for place in several if place in cells) for several in places]
        if any(column):
            columns[heading] = column
    return table(columns) if len(columns) > 1 else iter(())


def caption(record: dict[str, Any]) -> str:
    """How to read the table, and where its figures come from."""
    machine, commit = record["machine"], record["commit"] or "unknown"
    rounds = f"Pairs: {record['pairs']}" + (", small (`--quick`): a look, no measurement" if record["quick"] else "")
    if record["stopped"]:
        rounds += ", stopped before the end"
    before, after = machine["load"]
    peers = dict.fromkeys(
        _with_version(TITLES[system].partition(",")[0].removesuffix(" 8"), about)
        for system, about in record["systems"].items()
        if about["version"]
    )
    return (
        "Medians; of latencies p50 / p99, from the call that enqueues to the job's first line. Ours claims short jobs "
        "in batches and keeps no results, unless its line says otherwise. Ratios: the median of the pairs (lowest to "
        "highest); over 1, the first is ahead. "
        f"{rounds}. {record['date'][:10]}, commit {_short(commit)}, "
        + (f"base {_short(record['base'])}, " if record["base"] else "")
        + f"{machine['cores']} cores ({machine['processor']}), {machine['kernel']}, load average {before:.2f} before "
        f"and {after:.2f} after, {machine['server']}, Python {machine['python']}, "
        f"{record['threads']} threads a process; {', '.join(peers) or 'no peers'}."
    )


def _short(commit: str) -> str:
    return commit[:10] + ("+" if commit.endswith("+") else "")


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


def ratio(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else number(value)


def number(value: float) -> str:
    """Three digits that mean something; a spread shows how few of them do."""
    if value >= 999.5:
        return f"{round(value, 2 - len(str(int(value))) + 1):,.0f}"
    return f"{value:.3g}"
