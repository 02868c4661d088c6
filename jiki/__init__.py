"""The product: exercises, submissions and their checks."""
