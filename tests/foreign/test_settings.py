"""Projects with other settings than Jiki's: the tests in `end_to_end.py`, in a process for each kind."""

import os
import subprocess
import sys

import pytest

from tests import environment
from tests.foreign import KINDS
from tests.processes import ROOT

FORGOTTEN = ("TEST_PROCESS", "TEST_FOLDERS", "PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST", "PYTEST_ADDOPTS")


@pytest.mark.processes
@pytest.mark.parametrize("kind", KINDS)
def test_a_project_of_this_kind_works(kind):
    if kind == "manual_commit" and environment.database() == "mariadb":
        pytest.skip("with autocommit off, MariaDB does not say whether a transaction is open")
    env = {name: value for name, value in os.environ.items() if not name.startswith(FORGOTTEN)}
    env |= {"DJANGO_SETTINGS_MODULE": "tests.foreign.settings", "PROJECT": kind}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/foreign/end_to_end.py"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed" in ran.stdout
