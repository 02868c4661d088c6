"""Background jobs for Django: commands that run now or later, on a crash-safe worker, over RQ's data in Redis."""

from jobs.compat import import_paths
from jobs.job import MandateJob
from jobs.mandate import Mandate
from jobs.retries import Deadlock, RetryOn

__all__ = ["Deadlock", "Mandate", "MandateJob", "RetryOn"]

import_paths.install()
