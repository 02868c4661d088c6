"""The ASGI entry point: `config.asgi:application`."""

import os

from django.core.asgi import get_asgi_application

from config.loaded import settle
from config.requests import AsyncWebRequest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = get_asgi_application()
application.request_class = AsyncWebRequest
settle()
