"""An application that makes worker processes fail at a chosen step, for tests: the product knows nothing of it."""

# The variables of the environment that say how: a worker reads them when it starts, not when Django is set up.
VARIABLES = {
    "CLOCK_AHEAD",
    "CLOCK_FILE",
    "FAILING_FORKS",
    "FAILING_START",
    "FAULT",
    "FAULT_KILLS",
    "FAULT_MARKER",
    "INHERITED_FOLDER",
    "QUICK_JOBS",
    "SIGNAL_IN_STEP",
    "STALLED_FETCH",
    "STALLED_MAIN",
    "STRIKES",
    "STRIKE_KINDS",
    "STRIKE_RATE",
}
TIMES = {
    "RESTART_DELAY",
    "INTERRUPT_GRACE",
    "EVERY",
    "GRACE",
    "HOOKS",
    "HOPELESS",
    "PATIENCE",
    "POISON",
    "SILENCE",
    "STALLED",
    "STANDS_STILL",
    "THREADS",
    "UNSEEN",
}
