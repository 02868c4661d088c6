"""Limits, pauses, fairness, debounce: what decides when a job may start."""
