"""The testing kit, tested with the test runners that it supports."""
