"""What web servers import: it is loaded whole, and the garbage collector leaves it alone."""

import subprocess
import sys

import pytest

from tests.processes import ROOT, child_environment

LOOK = "import gc, sys; from config.{} import application; print('jiki.views' in sys.modules, gc.get_freeze_count())"


@pytest.mark.processes
@pytest.mark.parametrize("entry_point", ["asgi", "wsgi"])
def test_an_application_is_loaded_before_its_first_request_and_no_garbage(entry_point, valkey):
    command = [sys.executable, "-c", LOOK.format(entry_point)]
    said = subprocess.run(command, cwd=ROOT, env=child_environment(), capture_output=True, text=True, check=True)

    are_views_loaded, frozen = said.stdout.split()
    assert are_views_loaded == "True"
    assert int(frozen) > 50_000
