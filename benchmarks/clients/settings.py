"""The Django project of the peers: one database, one table that jobs read, connections kept open."""

import importlib.util
import os

SECRET_KEY = "only-for-benchmarks"  # noqa: S105
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["PGHOST"],
        "USER": os.environ["PGUSER"],
        "NAME": os.environ["PGDATABASE"],
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
    }
}
USE_TZ = True

if importlib.util.find_spec("django_vtasks"):
    INSTALLED_APPS += ["django_vtasks"]
    TASKS = {
        "default": {
            "BACKEND": "django_vtasks.backends.valkey.ValkeyTaskBackend",
            "OPTIONS": {"BROKER_URL": os.environ["REDIS_URL"]},
        }
    }
