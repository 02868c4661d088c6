"""What `manage.py jobs` does: the dashboard's looks and changes, for a terminal and for scripts."""

DONE, REFUSED, USAGE, AWAY = 0, 1, 2, 3  # exit codes; USAGE is argparse's own
