"""What one attempt at a job is: its claim, its interrupts, its failures, its profile, and the outcome it ends as."""
