"""What lies in Redis of one job: its payload and arguments, its history, its prerequisites, and what may be shown."""
