"""What came out: the rows, the file `var/bench/latest.json`, and the printed tables."""

import json
import os
import platform
import shutil
import statistics
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import loads
from benchmarks.loads import Sample
from benchmarks.processes import ROOT

US = "ours"
LATEST = ROOT / "var" / "bench" / "latest.json"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure of one system over all rounds. `processes` is None where no worker takes part."""

    system: str
    load: str
    processes: int | None
    unit: str
    median: float
    min: float
    max: float
    runs: int


class Results:
    """The samples of a run, in the order in which they came."""

    def __init__(self) -> None:
        self._samples: dict[tuple[str, str, int | None, str], list[float]] = {}
        self.skipped: dict[str, str] = {}
        self.failed: list[str] = []
        self.systems: dict[str, dict[str, str | None]] = {}

    def add(self, system: str, sample: Sample) -> None:
        key = (system, sample.load, sample.processes, sample.unit)
        self._samples.setdefault(key, []).append(sample.value)

    def rows(self) -> list[Row]:
        return [
            Row(
                system=system,
                load=load,
                processes=processes,
                unit=unit,
                median=statistics.median(values),
                min=min(values),
                max=max(values),
                runs=len(values),
            )
            for (system, load, processes, unit), values in self._samples.items()
        ]

    def write(self, *, server: str, quick: bool) -> Path:
        LATEST.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "quick": quick,
            "machine": machine() | {"server": server},
            "commit": commit(),
            "systems": self.systems,
            "skipped": self.skipped,
            "failed": self.failed,
            "rows": [asdict(row) for row in self.rows()],
        }
        LATEST.write_text(json.dumps(record, indent=1) + "\n")
        return LATEST


def machine() -> dict[str, str | int | None]:
    return {"cores": os.cpu_count(), "python": platform.python_version(), "kernel": platform.release()}


def commit() -> str | None:
    """The commit that was measured, with a plus when files differ from it; None outside a repository."""
    git = shutil.which("git")
    if git is None:
        return None

    def told(*arguments: str) -> str | None:
        done = subprocess.run([git, *arguments], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    head = told("rev-parse", "--verify", "HEAD")
    return head and (f"{head}+" if told("status", "--porcelain") else head)


def table(rows: Sequence[Row], titles: dict[str, str]) -> str:
    """
    A Markdown table a load, the fastest first, each figure compared with ours; then one of what only one system did.

    "ours is" says how many times better ours is: more of a rate, less of a time or of memory.
    """
    by_load: dict[tuple[str, int | None, str], list[Row]] = {}
    for row in rows:
        by_load.setdefault((row.load, row.processes, row.unit), []).append(row)
    several = [_block(of_load, titles) for of_load in by_load.values() if len(of_load) > 1]
    alone = [of_load[0] for of_load in by_load.values() if len(of_load) == 1]
    return "\n\n".join("\n".join(block) for block in (*several, *([_alone(alone, titles)] if alone else [])))


def _heading(row: Row) -> str:
    return row.load + {1: ", one process", 2: ", two processes"}.get(row.processes or 0, "")


def _alone(rows: list[Row], titles: dict[str, str]) -> Iterator[str]:
    cells = [("one system alone", "system", "median", "unit", "min to max", "runs")]
    for row in rows:
        spread = f"{number(row.min)} to {number(row.max)}"
        cells.append((_heading(row), titles[row.system], number(row.median), row.unit, spread, str(row.runs)))
    return _aligned(cells)


def _block(rows: list[Row], titles: dict[str, str]) -> Iterator[str]:
    unit = rows[0].unit
    more_is_better = unit == loads.JOBS_PER_SECOND
    us = next((row.median for row in rows if row.system == US), None)
    cells = [(_heading(rows[0]), unit, "min to max", "runs", "ours is")]
    for row in sorted(rows, key=lambda row: row.median, reverse=more_is_better):
        times = None if not us or not row.median else us / row.median if more_is_better else row.median / us
        cells.append(
            (
                titles[row.system],
                number(row.median),
                f"{number(row.min)} to {number(row.max)}",
                str(row.runs),
                "" if times is None else f"{times:.2f} x",
            )
        )
    return _aligned(cells)


def _aligned(cells: Iterable[Sequence[str]]) -> Iterator[str]:
    cells = list(cells)
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]

    def line(values: Sequence[str]) -> str:
        others = (value.rjust(width) for value, width in list(zip(values, widths, strict=True))[1:])
        return f"| {' | '.join((values[0].ljust(widths[0]), *others))} |"

    yield line(cells[0])
    yield f"|{'-' * (widths[0] + 2)}|{'|'.join('-' * (width + 1) + ':' for width in widths[1:])}|"
    yield from (line(values) for values in cells[1:])


def number(value: float) -> str:
    """Three digits that mean something; a spread shows how few of them do."""
    if value >= 1_000:
        return f"{round(value, 2 - len(str(int(value))) + 1):,.0f}"
    return f"{value:.3g}"


#: The columns of the summary: a heading, and the load and processes whose median stands there.
SUMMARY: dict[str, tuple[str, int | None]] = {
    "one at a time, /s": (loads.ONE_AT_A_TIME, None),
    "bulk, /s": (loads.IN_BULK, None),
    "one process, /s": (loads.NOOP, 1),
    "two, /s": (loads.NOOP, 2),
    "idle p50, ms": (f"{loads.IDLE}, p50", 1),
    "p99, ms": (f"{loads.IDLE}, p99", 1),
    "memory, MB": (loads.MEMORY, 1),
    "50 ms I/O, /s": (loads.IO_JOBS, 1),
    "ORM, /s": (loads.ORM_JOBS, 1),
    "2 ms away, /s": (loads.AWAY, 1),
    "critical p99, ms": (f"{loads.BEHIND}, p99", 1),
    "due, s": (loads.DUE, 1),
}


def summary(rows: Sequence[Row], titles: dict[str, str]) -> str:
    """One table for the whole run: a line a system, medians."""
    medians = {(row.system, row.load, row.processes): number(row.median) for row in rows}
    shown = {heading: place for heading, place in SUMMARY.items() if any(key[1:] == place for key in medians)}
    cells = [("median", *shown)]
    for system in dict.fromkeys(row.system for row in rows):
        cells.append((titles[system], *(medians.get((system, *place), "") for place in shown.values())))
    return "\n".join(_aligned(cells))
