"""One attempt at a job: its claim, its interrupts, its failures, its profile, and its outcome."""
