"""The settings of the tests, and of the processes that tests start: those of Jiki on private servers."""

import os

from tests import environment

environment.prepare()

from config.settings import *  # noqa: E402, F403
from config.settings import DATABASES, INSTALLED_APPS, JOBS, STORAGES  # noqa: E402

INSTALLED_APPS = [*INSTALLED_APPS, "tests.sample", "tests.courses"]

if environment.database() == "sqlite":
    # A file, not memory: threads and other processes must see it.
    DATABASES["default"]["TEST"] = {"NAME": str(environment.folder() / "test.sqlite3")}
    DATABASES["other"] = DATABASES["default"] | {"TEST": {"NAME": str(environment.folder() / "other.sqlite3")}}
else:
    DATABASES["other"] = DATABASES["default"] | {"NAME": "other"}

SUBMISSION_SANDBOX = "any"  # tests/jiki/test_sandbox.py asks for the kernel's, where there is one
JOBS = JOBS | {
    "SCHEDULE": None,
    "CLEAN_UP": False,
    "COLLECT_METRICS": "JOBS_COLLECT" in os.environ,
    "OUTBOX_KEEP": os.environ.get("JOBS_OUTBOX_KEEP") or None,
}  # the workers of tests do what the test gave them, nothing else
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
WHITENOISE_AUTOREFRESH = True  # no collected static files here
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = STORAGES | {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
