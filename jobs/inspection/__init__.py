"""The side that reads: jobs by state, queue, command and time, their life, the workers, and what was counted."""

from jobs.inspection.query import Count, JobQuery, Page, counts, find

__all__ = ["Count", "JobQuery", "Page", "counts", "find"]
