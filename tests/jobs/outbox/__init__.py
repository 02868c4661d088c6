"""Receipts of atomic commands, on a real database."""
