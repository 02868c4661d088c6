"""
What a test process and the processes it starts find in their environment.

Each test process (each of `pytest -n`, too) has a folder of its own for its servers, database and
logs. The addresses follow from the folder, so they are known before any server runs.
"""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from jobs.broker import embedded

DATABASE = "outside"  # never created: tests use the test database that Django makes beside it
UNSET = [
    "ALLOWED_HOSTS",
    "BEHIND_PROXY",
    "DEFAULT_FROM_EMAIL",
    "EXERCISES_API_TOKEN",
    "EXERCISES_API_URL",
    "LOG_FORMAT",
    "LOG_LEVEL",
    "SUBMISSION_SANDBOX",
]
DRIVERS = Path(__file__).parent / "drivers"


def prepare() -> None:
    """Set this process's environment, unless a test has started it: then the test has set it."""
    process = os.environ.get("PYTEST_XDIST_WORKER", "main")
    if os.environ.get("TEST_PROCESS") == process:
        return
    if "TEST_PROCESS" not in os.environ:
        os.environ["TEST_FOLDERS"] = _new_folder()
    directory = Path(os.environ["TEST_FOLDERS"], process)
    directory.mkdir(mode=0o711)
    for name in UNSET:
        os.environ.pop(name, None)
    os.environ |= {
        "TEST_PROCESS": process,
        "SECRET_KEY": "only-for-tests",
        "DEBUG": "0",
        "SITE_URL": "http://test.host",
        "EMAIL_URL": "memorymail://",
        "REDIS_URL": embedded.url(directory / "valkey"),
        "DATABASE_URL": database_url(directory),
    }
    if database() == "mariadb":
        sys.path.append(str(DRIVERS))
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(DRIVERS)]))


def folder() -> Path:
    """The folder of this test process."""
    return Path(os.environ["TEST_FOLDERS"], os.environ["TEST_PROCESS"])


def database() -> str:
    """Which database the tests run on."""
    wanted = os.environ.get("DB", "sqlite")
    if wanted not in {"sqlite", "postgres", "mariadb"}:
        raise ValueError(f"No such database to test on: DB={wanted}. Say sqlite, postgres or mariadb.")
    return wanted


def database_url(directory: Path, name: str = DATABASE) -> str:
    if database() == "postgres":
        return f"postgres://jiki@/{quote(str(directory / 'postgres'))}/{name}"
    if database() == "mariadb":
        return f"mysql:///{name}?unix_socket={quote(str(directory / 'mariadb' / 'socket'))}"
    return f"sqlite:///{quote(str(directory / name))}"


def _new_folder() -> str:
    created = tempfile.mkdtemp(prefix="jiki-")
    # Database servers refuse to run as root, and the user that they then run as must reach its own folder.
    Path(created).chmod(0o711)
    atexit.register(_remove, created, os.getpid())
    return created


def _remove(created: str, pid: int) -> None:
    """At the end of the process that made the folder, and not of one that it has forked."""
    if os.getpid() == pid:
        shutil.rmtree(created, ignore_errors=True)
