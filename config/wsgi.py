"""The WSGI entry point: `config.wsgi:application`."""

import gc
import os

from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = get_wsgi_application()
get_resolver().check()  # imports the views, which the first request would wait for

# What is loaded by now stays for good, so the garbage collector need not go through it again: that held a page up for
# some 45 ms, now and then.
gc.collect()
gc.freeze()
