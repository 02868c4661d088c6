"""`manage.py demo`: sign a learner up through the web form and watch a worker send the welcome mail."""

import logging
import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from jiki.management.commands._processes import Child, ended_as_by_ctrl_c, free_port
from jiki.management.commands._signup import SignupError, sign_up
from jobs import MandateJob, conf
from jobs.broker.embedded import EmbeddedServerError, EmbeddedValkey
from jobs.queues import get_queue

EMAIL = "learner@jiki.example"
COMMAND = "users.SendWelcomeEmail"
QUEUE = "mailers"
MARKER = ".jiki-demo"  # a non-empty folder without this file is never emptied
POLL = 0.02  # seconds
WEB_TIMEOUT = 20  # seconds until the web server must listen

Value = TypeVar("Value")


class Command(BaseCommand):
    help = "Sign a learner up through the web form and watch a worker send the welcome mail."
    requires_system_checks = ()  # the worker and the web server run them at their start

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--directory",
            type=Path,
            default=settings.VAR / "demo",
            help="the folder of all files of the demo; emptied at each start (default: var/demo)",
        )
        parser.add_argument(
            "--queues", nargs="+", default=list(conf.queues()), help="the queues of the worker (default: all)"
        )
        parser.add_argument("--timeout", type=float, default=30, help="seconds to wait for the mail (default: 30)")

    def handle(self, *args: Any, **options: Any) -> None:
        self.directory: Path = options["directory"].resolve()
        self.valkey = EmbeddedValkey(self.directory / "valkey")
        self._start_over_with_own_settings()
        logging.disable()  # the web server and the worker log to their own files
        began = time.monotonic()
        try:
            with ended_as_by_ctrl_c():
                self._play(options["queues"], options["timeout"])
        except EmbeddedServerError as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            self.stderr.write("\nStopped before the mail was sent. No process is left running.")
            sys.exit(130)
        took = time.monotonic() - began
        self.stdout.write(self.style.SUCCESS(f"\nThe worker sent the mail. {took:.1f} s; everything is stopped again."))

    def _start_over_with_own_settings(self) -> None:
        """Run the command again with the demo's settings in the environment: Django has already loaded its own."""
        environment = {
            "DEBUG": "1",
            "DATABASE_URL": f"sqlite:///{quote(str(self.directory / 'jiki.sqlite3'))}",
            "REDIS_URL": self.valkey.url,
            "EMAIL_URL": f"filemail:///{quote(str(self.directory / 'mail'))}",
            "LOG_LEVEL": "INFO",
        }
        if os.environ.items() >= environment.items():
            return
        self.stdout.flush()
        site = {"SITE_URL": f"http://127.0.0.1:{free_port()}"}
        os.execve(  # noqa: S606
            sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **environment, **site}
        )

    def _play(self, queues: list[str], timeout: float) -> None:
        self.stdout.write("A learner signs up, and a worker sends the welcome mail.\n\n")
        self._wipe()
        with ExitStack() as running:
            with self._step("valkey", "starting"):
                running.enter_context(self.valkey)
                self._say(f"on {_shown(Path(self.valkey.url.removeprefix('unix://')))}")
            with self._step("database", "migrating"):
                call_command("migrate", interactive=False, verbosity=0)
                self._say(f"SQLite, in {_shown(self.directory / 'jiki.sqlite3')}")
            worker_name = f"demo-{secrets.token_hex(4)}"
            with self._step("worker", "starting"):
                worker = running.enter_context(
                    Child("worker", "rqworker", "--name", worker_name, *queues, log=self.directory / "worker.log")
                )
                self._say(f"process {worker.pid}: rqworker {' '.join(queues)}")
            address = settings.SITE_URL.removeprefix("http://")
            with self._step("web", "starting"):
                web = running.enter_context(
                    Child("web", "runserver", address, "--noreload", log=self.directory / "web.log")
                )
                self._wait(lambda: _listens(address), WEB_TIMEOUT, "the web server to listen", web)
                self._say(f"process {web.pid}: {settings.SITE_URL}/")

            with self._step("sign-up", f"sending the form at {settings.SITE_URL}/signup/"):
                try:
                    sign_up(settings.SITE_URL, EMAIL, secrets.token_urlsafe(12))
                except SignupError as error:
                    raise CommandError(f"{error}\n{web.report()}") from error
                user = get_user_model().objects.get(email=EMAIL)
                self._say(f"{user} is user {user.pk}")

            with self._step("job", "waiting for the worker"):
                what = f"the worker to finish {COMMAND} (queue {QUEUE})"
                job = self._wait(_finished_job, timeout, what, worker, web)
                if not (job.worker_name or "").startswith(worker_name):
                    raise CommandError(f"Job {job.id} was run by {job.worker_name!r}, not by {worker_name!r}.")
                waited, took = _between(job.enqueued_at, job.started_at), _between(job.started_at, job.ended_at)
                self._say(f"{job.id} ({job.command_name}, queue {job.origin})")
                self._say(f"waited {waited}, took {took}, run by {job.worker_name}, process {worker.pid}", indent=12)
            with self._step("mail", "reading"):
                file, mail = self._mail(worker)
                self._say(f"{mail['subject']!r} to {mail['to']}: {_shown(file)}")

    def _wipe(self) -> None:
        if self.valkey.is_running():
            raise CommandError(f"A demo is already running in {self.directory}. Stop it, or name another --directory.")
        if self.directory.exists():
            if any(self.directory.iterdir()) and not (self.directory / MARKER).exists():
                raise CommandError(
                    f"Not a folder of an earlier demo: {self.directory}. A demo empties its folder first, "
                    "so name an empty or a new one with --directory."
                )
            shutil.rmtree(self.directory)
        self.directory.mkdir(parents=True)
        (self.directory / MARKER).touch()

    def _wait(self, check: Callable[[], Value | None], timeout: float, what: str, *children: Child) -> Value:
        deadline = time.monotonic() + timeout
        while not (value := check()):
            ended = [child for child in children if child.ended]
            if ended or time.monotonic() > deadline:
                why = f"Waited {timeout:g} s in vain for {what}." if not ended else f"Waited in vain for {what}."
                raise CommandError("\n".join([why, *(child.report() for child in ended or children)]))
            time.sleep(POLL)
        return value

    def _mail(self, worker: Child) -> tuple[Path, EmailMessage]:
        for file in (self.directory / "mail").glob("*"):
            mail = message_from_bytes(file.read_bytes(), policy=policy.default)
            if mail["to"] == EMAIL and isinstance(mail, EmailMessage):
                return file, mail
        raise CommandError(f"No mail to {EMAIL} is in {self.directory / 'mail'}.\n{worker.report()}")

    @contextmanager
    def _step(self, label: str, doing: str) -> Iterator[None]:
        """Begin the line of a step before it runs: steps take seconds. `_say` ends the line with the result."""
        self.stdout.write(f"  {label:10}{doing} ... ", ending="")
        self.stdout.flush()
        try:
            yield
        except BaseException:
            self._say("")
            raise

    def _say(self, text: str, indent: int = 0) -> None:
        self.stdout.write(" " * indent + text)
        self.stdout.flush()


def _finished_job() -> MandateJob | None:
    """Return the job that sends the welcome mail if it has finished, else None. CommandError if it has failed."""
    queue = get_queue(QUEUE)
    failed = queue.failed_job_registry.get_job_ids() + queue.scheduled_job_registry.get_job_ids()
    for id in failed + queue.finished_job_registry.get_job_ids():
        job = queue.fetch_job(id)
        if not isinstance(job, MandateJob) or job.command_name != COMMAND:
            continue
        if id in failed:
            raise CommandError(f"Job {id} failed. It is {job.state} now.\n{job.exc_info or ''}")
        return job
    return None


def _listens(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def _between(start: datetime | None, end: datetime | None) -> str:
    return f"{(end - start).total_seconds() * 1000:.0f} ms" if start and end else "an unknown time"


def _shown(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
