"""Limits on how many jobs run at once, and how many start in a time, by a key of their fields."""
