"""
Import paths of release 0.1.0 that moved. They work in this release, with a DeprecationWarning that names the new path.

The finder hands out the module itself, so that what is patched or set on one path is seen on the other.
"""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "allowed": "record.allowlist",
    "arguments": "record.arguments",
    "connections": "broker.connections",
    "context": "client.context",
    "deferral": "client.new_job",
    "definitions": "recurring.serialization",
    "direct": "tasks",
    "entries": "recurring.store",
    "failures": "attempts.failures",
    "history": "record.history",
    "interrupt": "attempts.interrupt",
    "lease": "broker.lease",
    "metrics": "inspection.samples",
    "options": "client.options",
    "outcomes": "attempts.outcomes",
    "prerequisites": "record.prerequisites",
    "profiles": "attempts.profiles",
    "question": "inspection.single_flight",
    "recurrence": "recurring.entry",
    "registry": "record.registry",
    "rows": "inspection.rows",
    "runs": "recurring.runs",
    "seams": "runtime",
    "sources": "inspection.sources",
    "statistics": "inspection.attempt_counts",
    "timeline": "inspection.timeline",
    "tracing": "client.tracing",
    "version": "inspection.version",
    "worker.board": "worker.scoreboard",
    "worker.claim": "attempts.claim",
    "worker.cleaning": "worker.expiry",
    "worker.housekeeping": "worker.rq_maintenance",
    "worker.plain": "worker.rq_jobs",
    "worker.remote": "worker.remote_commands",
    "worker.wire": "worker.connection",
    "workers": "inspection.workers",
}


class MovedFinder:
    """Finds the modules of MOVED under their old names; also their loader."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        old = name.removeprefix("jobs.")
        if old == name or old not in MOVED:
            return None
        return ModuleSpec(name, self)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = f"jobs.{MOVED[spec.name.removeprefix('jobs.')]}"
        warnings.warn(f"{spec.name} is {new} now; the old path goes in 0.3.", DeprecationWarning, stacklevel=2)
        module = import_module(new)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has been executed under its new name; the import system has just given it the old one's spec."""
        assert module.__spec__ is not None  # noqa: S101
        module.__spec__ = module.__spec__.loader_state


def install() -> None:
    """Make the old paths importable. Called once, when `jobs` is imported."""
    sys.meta_path.append(MovedFinder())
