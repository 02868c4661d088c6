"""The package's own jobs."""
