"""The package in a project that `startproject` made: no queue `default`, and none of Jiki's settings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT
from tests.servers import Valkey

SETTINGS = """
import os

SECRET_KEY = "x"
ALLOWED_HOSTS = ["testserver"]
CONTRIB = ["admin", "auth", "contenttypes", "sessions", "messages", "staticfiles"]
INSTALLED_APPS = ["jobs", "django_rq", *(f"django.contrib.{app}" for app in CONTRIB), "shop"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
PROCESSORS = ["django.template.context_processors.request", "django.contrib.auth.context_processors.auth"]
PROCESSORS += ["django.contrib.messages.context_processors.messages"]
BACKEND = "django.template.backends.django.DjangoTemplates"
TEMPLATES = [{"BACKEND": BACKEND, "APP_DIRS": True, "OPTIONS": {"context_processors": PROCESSORS}}]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE_FILE"]}}
ROOT_URLCONF = "addresses"
STATIC_URL = "static/"
RQ_QUEUES = {"work": {"URL": os.environ["REDIS_URL"]}, "rest": {"URL": os.environ["REDIS_URL"]}}
TASKS = {"default": {"BACKEND": "jobs.backends.RQBackend"}}
"""
ADDRESSES = """
from django.contrib import admin
from django.urls import path

urlpatterns = [path("admin/", admin.site.urls)]
"""
COMMANDS = """
from jobs import Mandate
from jobs.tasks import task


class Sell(Mandate):
    item: str

    def call(self) -> str:
        return self.item


@task
def pack(item: str) -> str:
    return item
"""
PROGRAM = """
import django

django.setup()
from django.core.management import call_command
from jobs.inspection import find
from shop.commands import Sell, pack

call_command("check", fail_level="WARNING")
call_command("migrate", verbosity=0)
call_command("makemigrations", "jobs", check_changes=True, dry_run=True, verbosity=0)
call_command("dumpdata", use_base_manager=True, output="all.json", verbosity=0)
job, result = Sell.defer("tea"), pack.enqueue("tea")
print("queues:", job.origin, find(result.id).origin)
call_command("rqworker", burst=True)
print("results:", job.return_value(), pack.get_result(result.id).return_value)
"""


@pytest.mark.processes
def test_it_runs_there(tmp_path: Path) -> None:
    files = {"elsewhere.py": SETTINGS, "addresses.py": ADDRESSES, "shop/__init__.py": "", "shop/commands.py": COMMANDS}
    (tmp_path / "shop").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with Valkey(tmp_path / "valkey") as server:
        env = {
            "PATH": os.environ["PATH"],
            "DJANGO_SETTINGS_MODULE": "elsewhere",
            "DATABASE_FILE": str(tmp_path / "db.sqlite3"),
            "REDIS_URL": server.url,
            "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT))),
        }
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
        )

    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert "queues: work work" in said
    assert "results: tea tea" in said
