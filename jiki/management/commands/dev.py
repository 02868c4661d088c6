"""`manage.py dev`: the processes of production on a developer's machine, in the foreground."""

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from watchfiles import DefaultFilter, watch

from jiki.management.commands._processes import Child, ended_as_by_ctrl_c, port_in_use
from jobs import conf
from jobs.broker.embedded import EmbeddedServerError, EmbeddedValkey

ADMIN = "admin@jiki.example"
RESTARTS_ON = (".py", ".lua", ".html", ".txt")  # files that a worker has loaded when it runs jobs
CHECK_EVERY = 500  # milliseconds between two checks whether the children still run


class Sources(DefaultFilter):
    """The files whose change restarts the worker."""

    def __call__(self, change: Any, path: str) -> bool:
        return path.endswith(RESTARTS_ON) and super().__call__(change, path)


class Command(BaseCommand):
    help = "Run the web server, a worker and a Valkey; both follow code changes, and Ctrl-C stops all."
    requires_system_checks = ()  # the worker and the web server run them at their start

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="the port of the web server (default: 8000)")

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError("This is for development: set DEBUG=1, as `make run` does.")
        port: int = options["port"]
        if port_in_use(port):
            raise CommandError(
                f"Port {port} is in use, perhaps by another `make run`. "
                f"Stop it, or use another port: make run ARGS='--port {port + 1}'"
            )
        try:
            with ended_as_by_ctrl_c():
                self._run(port)
        except EmbeddedServerError as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            self.stdout.write("\nEverything is stopped.")
            sys.exit(130)

    def _run(self, port: int) -> None:
        site = os.environ.get("SITE_URL", f"http://localhost:{port}")
        environment = {"SITE_URL": site}
        with ExitStack() as running:
            valkey = EmbeddedValkey(settings.VAR)
            if valkey.url == settings.REDIS_URL:
                self._say("Starting a Valkey ...")
                running.enter_context(valkey)
            self._say("Migrating the database ...")
            call_command("migrate", interactive=False, verbosity=0)
            self._greet(site)
            self._say("Starting the worker and the web server ...")
            # Stopped in reverse order: a process ends before the processes that it needs.
            worker = running.enter_context(Child("worker", "rqworker", *conf.queues(), environment=environment))
            web = running.enter_context(Child("web", "runserver", f"127.0.0.1:{port}", environment=environment))
            self._mind(worker, web)

    def _greet(self, site: str) -> None:
        pages = {
            "Jiki": f"{site}/",
            "Sign up": f"{site}/signup/",
            "Admin": f"{site}/admin/",
            "": self._admin_login(),
            "Mail": "as EMAIL_URL says" if "EMAIL_URL" in os.environ else f"files in {settings.VAR / 'mail'}",
        }
        self.stdout.write("".join(f"  {label:10}{text}\n" for label, text in pages.items()))
        self._say("Code changes restart the web server and the worker. Ctrl-C stops everything.\n")

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

    def _admin_login(self) -> str:
        users = get_user_model().objects
        if users.filter(email=ADMIN).exists():
            return f"{ADMIN}, created earlier. New password: DEBUG=1 {sys.executable} manage.py changepassword {ADMIN}"
        password = secrets.token_urlsafe(12)
        users.create_superuser(email=ADMIN, password=password)
        return f"{ADMIN}, password {password} (shown this once)"

    def _mind(self, worker: Child, web: Child) -> None:
        """Restart the worker when its code changes, until Ctrl-C or the end of the web server."""
        reported = False
        for changes in watch(*_sources(), watch_filter=Sources(), rust_timeout=CHECK_EVERY, yield_on_timeout=True):
            if web.ended:
                raise CommandError(web.report())
            if changes:
                names = ", ".join(sorted({Path(path).name for _, path in changes}))
                self._say(f"{names} changed: the worker starts again.")
                worker.stop()
                worker.start()
                reported = False
            elif worker.ended and not reported:
                self.stderr.write(f"{worker.report()} It starts again when the code changes.")
                reported = True


def _sources() -> Iterator[Path]:
    for package in Path(settings.BASE_DIR).glob("*/__init__.py"):
        if package.parent.name != "tests":
            yield package.parent
