"""What came out: the rows, and the file `var/bench/latest.json` that keeps them."""

import json
import os
import platform
import shutil
import statistics
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from benchmarks.bench import THREADS, Sample
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

    def record(self, *, server: str, quick: bool, stopped: bool, rounds: int) -> dict[str, Any]:
        """The run, as it is kept."""
        return {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "quick": quick,
            "stopped": stopped,
            "rounds": rounds,
            "threads": THREADS,
            "machine": machine() | {"server": server},
            "commit": commit(),
            "systems": self.systems,
            "skipped": self.skipped,
            "failed": self.failed,
            "rows": [asdict(row) for row in self.rows()],
        }


def write(record: dict[str, Any]) -> None:
    LATEST.parent.mkdir(parents=True, exist_ok=True)
    LATEST.write_text(json.dumps(record, indent=1) + "\n")


def read() -> dict[str, Any]:
    """The last run. FileNotFoundError when there is none."""
    return dict(json.loads(LATEST.read_text()))


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
