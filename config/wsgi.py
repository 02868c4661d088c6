"""The WSGI entry point: `config.wsgi:application`."""

import os

from django.core.wsgi import get_wsgi_application

from config.loaded import settle
from config.requests import WebRequest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = get_wsgi_application()
application.request_class = WebRequest
settle()
