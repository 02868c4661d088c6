"""Accounts: sign-up, log-in and password reset."""
