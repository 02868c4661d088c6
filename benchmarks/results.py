"""What came out: the rows, and the file `var/bench/latest.json` that keeps them."""

import json
import os
import platform
import re
import shutil
import statistics
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.bench import JOBS_PER_SECOND, THREADS, Sample
from benchmarks.processes import ROOT

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


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """
    One figure of two systems over all pairs. `median`, `min` and `max` are of the ratios, one a pair: how many times as
    good the first system is as the second, more of a rate, less of a time or of memory.
    """

    first: str
    second: str
    load: str
    processes: int | None
    unit: str
    first_median: float
    second_median: float
    median: float
    min: float
    max: float
    pairs: int


class Results:
    """The samples of a run, in the order in which they came."""

    def __init__(self) -> None:
        self._samples: dict[tuple[str, str, int | None, str], list[float]] = {}
        self._pairs: dict[tuple[str, str, str, int | None, str], list[tuple[float, float]]] = {}
        self.skipped: dict[str, str] = {}
        self.failed: list[str] = []
        self.systems: dict[str, dict[str, str | None]] = {}

    def add(self, system: str, sample: Sample) -> None:
        key = (system, sample.load, sample.processes, sample.unit)
        self._samples.setdefault(key, []).append(sample.value)

    def compare(self, first: str, ours: Iterable[Sample], second: str, theirs: Iterable[Sample]) -> None:
        """Two systems, measured one right after the other."""
        beside = {(sample.load, sample.processes, sample.unit): sample.value for sample in theirs}
        for sample in ours:
            other = beside.get((sample.load, sample.processes, sample.unit))
            if sample.value and other:
                key = (first, second, sample.load, sample.processes, sample.unit)
                self._pairs.setdefault(key, []).append((sample.value, other))

    def comparisons(self) -> list[Comparison]:
        found = []
        for (first, second, load, processes, unit), values in self._pairs.items():
            ratios = [one / two if unit == JOBS_PER_SECOND else two / one for one, two in values]
            found.append(
                Comparison(
                    first=first,
                    second=second,
                    load=load,
                    processes=processes,
                    unit=unit,
                    first_median=statistics.median(one for one, _ in values),
                    second_median=statistics.median(two for _, two in values),
                    median=statistics.median(ratios),
                    min=min(ratios),
                    max=max(ratios),
                    pairs=len(ratios),
                )
            )
        return found

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

    def record(
        self,
        *,
        server: str,
        quick: bool,
        stopped: bool,
        pairs: int,
        busy: tuple[float, float],
        base: Path | None,
    ) -> dict[str, Any]:
        """The run, as it is kept. `busy`: the load average before it and after it; `base`: the other checkout."""
        return {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "quick": quick,
            "stopped": stopped,
            "pairs": pairs,
            "threads": THREADS,
            "machine": machine() | {"server": server, "load": busy},
            "commit": commit(),
            "base": base and commit(base),
            "systems": self.systems,
            "skipped": self.skipped,
            "failed": self.failed,
            "rows": [asdict(row) for row in self.rows()],
            "comparisons": [asdict(comparison) for comparison in self.comparisons()],
        }


def write(record: dict[str, Any]) -> None:
    LATEST.parent.mkdir(parents=True, exist_ok=True)
    LATEST.write_text(json.dumps(record, indent=1) + "\n")


def read() -> dict[str, Any]:
    """The last run. FileNotFoundError when there is none."""
    return dict(json.loads(LATEST.read_text()))


def machine() -> dict[str, str | int | None]:
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def processor() -> str:
    """What the processor calls itself, as far as the system tells."""
    try:
        named = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        named = None
    return named[1].strip() if named else platform.processor() or platform.machine()


def commit(checkout: Path = ROOT) -> str | None:
    """The checkout's commit, with a plus when files differ from it; None outside a repository."""
    git = shutil.which("git")
    if git is None:
        return None

    def told(*arguments: str) -> str | None:
        done = subprocess.run([git, *arguments], cwd=checkout, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    head = told("rev-parse", "--verify", "HEAD")
    return head and (f"{head}+" if told("status", "--porcelain") else head)
