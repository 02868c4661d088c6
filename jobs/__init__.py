"""Background jobs for Django: commands that run now or later, on a crash-safe worker, over RQ's data in Redis."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jobs.compat import import_paths

if TYPE_CHECKING:
    from jobs.batches.batch import Batch
    from jobs.batches.workflow import Workflow
    from jobs.job import MandateJob
    from jobs.limits.code import limit
    from jobs.limits.collapse import Collapse
    from jobs.limits.policy import Concurrency, Rate
    from jobs.mandate import Mandate
    from jobs.retries import Deadlock, RetryOn

__all__ = [
    "Batch",
    "Collapse",
    "Concurrency",
    "Deadlock",
    "Mandate",
    "MandateJob",
    "Rate",
    "RetryOn",
    "Workflow",
    "limit",
]

__version__ = "0.1.0"  # of the distribution, django-mandate

_HOMES = {
    "Batch": "batches.batch",
    "Collapse": "limits.collapse",
    "Concurrency": "limits.policy",
    "Rate": "limits.policy",
    "limit": "limits.code",
    "Deadlock": "retries",
    "Mandate": "mandate",
    "MandateJob": "job",
    "RetryOn": "retries",
    "Workflow": "batches.workflow",
}

import_paths.install()


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the settings, which do not exist yet, may import `jobs.broker`."""
    if name not in _HOMES:
        raise AttributeError(f"module 'jobs' has no attribute {name!r}")
    value = getattr(import_module(f"jobs.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
