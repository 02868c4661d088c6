"""The client: checks options, builds new jobs, and captures the context that a job takes from its caller."""
