"""The kit in another project: one without a server, with Django and little else."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes
ROOT = Path(__file__).resolve().parents[3]
SETTINGS = """
SECRET_KEY = "x"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "shop", "jobs", "django_rq"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
# Nobody listens there.
RQ_QUEUES = {name: {"URL": "redis://127.0.0.1:1/0"} for name in ("default", "mailers")}
"""
COMMANDS = """
from jobs import Mandate
from shop.models import Order


class Ship(Mandate):
    queue = "mailers"
    order: Order

    def call(self) -> None:
        self.order.shipped = True
        self.order.save()
"""
MODELS = """
from django.db import models


class Order(models.Model):
    shipped = models.BooleanField(default=False)
"""
PYTEST = """
import pytest


@pytest.mark.django_db
def test_an_order_is_shipped(jobs):
    from shop.commands import Ship
    from shop.models import Order

    order = Order.objects.create()
    with jobs.assert_enqueued_with(Ship, args=(order,), queue="mailers"), jobs.perform_enqueued_jobs():
        Ship.defer(order)
    order.refresh_from_db()
    assert order.shipped
"""
UNITTEST = """
import sys

from django.test import TestCase
from jobs.testing import JobsTestMixin
from shop.commands import Ship
from shop.models import Order


class ShipTest(JobsTestMixin, TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.order = Order.objects.create()
        Ship.defer(cls.order)

    def test_an_order_is_shipped(self):
        self.assertIsNone(sys.modules["pytest"])
        self.assert_no_enqueued_jobs()
        with self.assert_performed_jobs(1):
            Ship.defer(self.order)
        self.order.refresh_from_db()
        self.assertTrue(self.order.shipped)

    def test_a_failure_is_reported(self):
        with self.assertRaisesMessage(AssertionError, "Nothing was enqueued."):
            self.assert_enqueued_with(Ship)
"""
WITHOUT_PYTEST = """
import sys

sys.modules["pytest"] = None  # as where it is not installed
import django
from django.core.management import call_command

django.setup()
call_command("test", "shop")
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "shop").mkdir()
    files = {
        "bare_settings.py": SETTINGS,
        "shop/__init__.py": "",
        "shop/models.py": MODELS,
        "shop/commands.py": COMMANDS,
        "shop/tests.py": UNITTEST,
        "test_shop.py": PYTEST,
    }
    for name, text in files.items():
        (tmp_path / name).write_text(textwrap.dedent(text))
    return tmp_path


def run(project, *words, **variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TEST_", "PYTEST_", "DJ"))}
    return subprocess.run(
        [sys.executable, *words],
        env=environment | variables | {"PYTHONPATH": f"{project}{os.pathsep}{ROOT}"},
        cwd=project,
        capture_output=True,
        text=True,
    )


def test_it_is_a_pytest_plugin_before_django_is_set_up(project):
    words = ["-m", "pytest", "-q", "-p", "jobs.testing", "-W", "error", "test_shop.py"]
    ran = run(project, *words, DJANGO_SETTINGS_MODULE="bare_settings")

    assert "1 passed" in ran.stdout, ran.stdout + ran.stderr


def test_a_conftest_registers_it(project):
    (project / "pytest.ini").write_text("[pytest]\nDJANGO_SETTINGS_MODULE = bare_settings\n")
    (project / "conftest.py").write_text('pytest_plugins = ["jobs.testing"]\n')
    ran = run(project, "-m", "pytest", "-q", "-W", "error", "test_shop.py")

    assert "1 passed" in ran.stdout, ran.stdout + ran.stderr


def test_the_mixin_works_without_pytest_and_without_a_server(project):
    ran = run(project, "-W", "error", "-c", WITHOUT_PYTEST, DJANGO_SETTINGS_MODULE="bare_settings")

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Ran 2 tests" in ran.stderr
