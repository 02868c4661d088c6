"""Durable jobs, and receipts of atomic commands, on a real server and database."""
