"""The side that enqueues: options checked, a new job built, and what the job takes along from its caller."""
