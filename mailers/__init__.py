"""Mail: one module per kind, each with a `send` that a job calls."""
