"""`python -m jobs.testing.process`: run `manage.py rqworker` with the databases and the server of a test."""

import json
import os
import sys

import django
from django.conf import settings
from django.core.management import execute_from_command_line

from jobs.testing.worker import OVERRIDES


def main() -> None:
    overrides = json.loads(os.environ[OVERRIDES])
    for alias, name in overrides["databases"].items():
        settings.DATABASES[alias]["NAME"] = name
    settings.RQ_QUEUES = overrides["queues"]
    django.setup()

    execute_from_command_line(["manage.py", "rqworker", *sys.argv[1:]])


if __name__ == "__main__":
    main()
