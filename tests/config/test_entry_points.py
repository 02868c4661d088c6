"""What web servers import: it is loaded whole, and the garbage collector leaves it alone."""

import subprocess
import sys

import pytest

from tests.processes import ROOT, child_environment

# django-tasks, which Django 6 does without, makes classes of Django's subscriptable. This undoes it.
UNAIDED = """
import contextlib, gc
from django.core.management import execute_from_command_line
with contextlib.suppress(ImportError):
    import django_tasks
for each in [each for each in gc.get_objects() if issubclass(type(each), type)]:
    method = vars(each).get("__class_getitem__")
    if getattr(method, "__module__", "").startswith("django_stubs_ext"):
        del each.__class_getitem__
execute_from_command_line(["manage.py", "check"])
"""
LOOK = "import gc, sys; from config.{} import application; print('jiki.views' in sys.modules, gc.get_freeze_count())"


@pytest.mark.processes
@pytest.mark.parametrize("entry_point", ["asgi", "wsgi"])
def test_an_application_is_loaded_before_its_first_request_and_no_garbage(entry_point, valkey):
    command = [sys.executable, "-c", LOOK.format(entry_point)]
    said = subprocess.run(command, cwd=ROOT, env=child_environment(), capture_output=True, text=True, check=True)

    are_views_loaded, frozen = said.stdout.split()
    assert are_views_loaded == "True"
    assert int(frozen) > 50_000


@pytest.mark.processes
def test_nothing_leans_on_what_another_package_does_to_django(valkey):
    environment = child_environment(DJANGO_SETTINGS_MODULE="config.settings")
    said = subprocess.run([sys.executable, "-c", UNAIDED], cwd=ROOT, env=environment, capture_output=True, text=True)

    assert said.returncode == 0, said.stderr
    assert "no issues" in said.stdout
