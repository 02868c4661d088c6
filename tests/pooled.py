"""The tests' settings for workers that use Django's connection pool for PostgreSQL (Django 5.1, psycopg 3)."""

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

for _database in DATABASES.values():
    _database["CONN_MAX_AGE"] = 0
    _database["OPTIONS"] = {"pool": {"min_size": 1, "max_size": 2, "timeout": 5}}
