"""The side that reads: jobs by state, queue, command and time, their timelines, the workers, counts and samples."""

from jobs.inspection.query import Count, JobQuery, Page, counts, find

__all__ = ["Count", "JobQuery", "Page", "counts", "find"]
