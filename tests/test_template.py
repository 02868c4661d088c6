"""A process that a template has forked finds what one finds that an interpreter has started."""

import json
import signal
import subprocess

import pytest

from tests import template
from tests.processes import _start_fresh, child_environment

LOOK = """
import atexit, json, os, signal, sys, threading
from django.conf import settings
from django.db import connections
import __main__
found = {
    "arguments": sys.argv,
    "main": [__main__.__name__, os.path.basename(__main__.__file__)],
    "path": sys.path,
    "folder": os.getcwd(),
    "variables": dict(os.environ),
    "settings": [settings.SETTINGS_MODULE, settings.DATABASES["default"]["NAME"]],
    "handlers": {number.name: str(signal.getsignal(number)).partition(" at ")[0] for number in signal.Signals},
    "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "own session": os.getsid(0) == os.getpid(),
    "files": sorted(int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")),
    "input": os.readlink("/proc/self/fd/0"),
    "threads": threading.active_count(),
    "connections": [each.connection for each in connections.all()],
}
atexit.register(lambda: print("atexit"))
print(json.dumps(found))
"""
pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]


def run(start, folder, code=LOOK, **env):
    """Its exit code, and what it says."""
    log = folder / "log"
    with log.open("wb") as output:
        process = start(["shell", "--no-imports", "-c", code], child_environment(**env), output)
    return process.wait(60), log.read_text()


def test_it_finds_what_a_fresh_one_finds(tmp_path):
    code, said = run(_start_fresh, tmp_path)
    for _ in range(3):  # from the first template, from the one of this environment, and again from that
        assert run(template.start, tmp_path) == (code, said)
    found, ending = said.splitlines()
    assert (code, ending) == (0, "atexit")
    assert json.loads(found)["threads"] == 1


@pytest.mark.parametrize("settings", ["tests.faulty", "tests.prefixed"])
def test_its_settings_are_those_of_its_environment(settings, tmp_path):
    for _ in range(2):
        assert run(template.start, tmp_path, DJANGO_SETTINGS_MODULE=settings, LOG_LEVEL="INFO") == run(
            _start_fresh, tmp_path, DJANGO_SETTINGS_MODULE=settings, LOG_LEVEL="INFO"
        )


@pytest.mark.parametrize(
    "code", ["raise SystemExit(3)", "import os; os.kill(os.getpid(), 9)", "import os; os._exit(4)"]
)
def test_its_end_is_told(code, tmp_path):
    assert run(template.start, tmp_path, code) == run(_start_fresh, tmp_path, code)


def test_it_can_be_waited_for_and_signalled(tmp_path):
    with (tmp_path / "log").open("wb") as output:
        code = "import time; time.sleep(600)"
        process = template.start(["shell", "--no-imports", "-c", code], child_environment(), output)
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.kill()
    assert process.wait() == process.returncode == process.poll() == -signal.SIGKILL
    process.terminate()  # too late, which is no error
