"""What the package does for itself, as jobs."""
