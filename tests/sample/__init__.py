"""An application like any other, for the tests: its models and commands belong to no real one."""
