"""Batches: jobs that belong together, with callbacks that run when the last of them has ended."""
