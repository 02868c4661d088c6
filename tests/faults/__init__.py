"""An application that makes worker processes fail at a chosen step, for tests: the product knows nothing of it."""
