"""Waits for the end of jobs without asking for it again and again, and reads and writes how far they are."""
