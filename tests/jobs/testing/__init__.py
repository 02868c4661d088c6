"""The testing kit, tested with the test runner it is for."""
