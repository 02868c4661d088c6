"""The commands of the mail app itself."""
