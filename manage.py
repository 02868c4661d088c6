#!/usr/bin/env python
"""Django's command line for Jiki."""

import os
import sys

try:
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line
except ModuleNotFoundError:
    sys.exit("Django is not installed for this Python. Type: make setup, then DEBUG=1 .venv/bin/python manage.py ...")

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        settings.DEBUG  # noqa: B018  reads the settings
    except ImproperlyConfigured as error:
        sys.exit(str(error))  # it says what to type; a traceback would hide that
    execute_from_command_line(sys.argv)
