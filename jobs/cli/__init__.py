"""The sub-commands of `manage.py jobs`: what the dashboard shows and changes, for a terminal and for scripts."""

DONE, REFUSED, USAGE, AWAY = 0, 1, 2, 3  # exit codes; USAGE is argparse's own
