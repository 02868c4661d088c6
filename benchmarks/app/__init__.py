"""The application that our own worker runs in the benchmarks."""
