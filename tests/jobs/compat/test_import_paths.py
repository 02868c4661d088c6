"""Import paths of the last release: each imports the module at its new place, with a warning."""

import importlib
import subprocess
import sys

import pytest

from jobs.broker import embedded
from jobs.compat.import_paths import MOVED
from jobs.inspection import workers
from tests.processes import ROOT, child_environment


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_an_old_path_is_the_module_at_its_new_place(old, new):
    with pytest.warns(DeprecationWarning, match=f"jobs.{old} is jobs.{new} now"):
        sys.modules.pop(f"jobs.{old}", None)
        moved = importlib.import_module(f"jobs.{old}")

    assert moved is importlib.import_module(f"jobs.{new}")
    assert (moved.__name__, moved.__spec__.name) == (f"jobs.{new}", f"jobs.{new}")


def test_public_names_of_the_last_release_are_still_there():
    program = """
import django; django.setup()
import jobs.workers
from jobs import direct, statistics
from jobs.direct import task
from jobs.inspection import JobQuery, find, counts
from jobs.connections import get_connection
from jobs.execution import perform
from jobs.retries import Deadlock
print(perform.__module__, Deadlock.__module__, jobs.workers.listed.__module__)
"""
    answer = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=child_environment(DJANGO_SETTINGS_MODULE="tests.settings"),
        capture_output=True,
        text=True,
    )

    assert answer.stdout.split() == ["jobs.execution", "jobs.retries", "jobs.inspection.workers"], answer.stderr


def test_another_unknown_module_is_unknown():
    with pytest.raises(ModuleNotFoundError, match="jobs.nothing"):
        importlib.import_module("jobs.nothing")


def test_the_embedded_server_is_found_where_it_was():
    old = importlib.import_module("config.embedded")

    assert all(getattr(old, name) is getattr(embedded, name) for name in old.__all__)


def test_the_workers_are_listed_under_their_old_name():
    assert workers.alive is workers.listed
