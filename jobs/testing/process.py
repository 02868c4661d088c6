"""`python -m jobs.testing.process`: `manage.py rqworker` on the databases and the server of a test."""

import json
import os
import sys

import django
from django.conf import settings
from django.core.management import call_command

from jobs.testing.worker import OVERRIDES


def main() -> None:
    told = json.loads(os.environ[OVERRIDES])
    for alias, name in told["databases"].items():
        settings.DATABASES[alias]["NAME"] = name
    settings.RQ_QUEUES = told["queues"]
    django.setup()

    call_command("rqworker", *sys.argv[1:])


if __name__ == "__main__":
    main()
