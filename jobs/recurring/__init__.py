"""Recurring entries: their definition, their storage in Redis, and their runs."""
