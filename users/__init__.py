"""Accounts: who learns on Jiki, and how they sign up, log in and get back in."""
