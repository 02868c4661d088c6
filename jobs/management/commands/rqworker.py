"""`manage.py rqworker critical default mailers background low`: run a worker, with django-rq's name and options."""

import os
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser
from django.db import connections

from jobs import conf, queues
from jobs.broker import names
from jobs.broker.connections import get_connection
from jobs.cli.checked import RunsBesideBadEntries
from jobs.cli.exits import end
from jobs.worker.parent import Parent
from jobs.worker.scoreboard import PAUSABLE
from jobs.worker.settings import WorkerSettings

# Options of django-rq's command that this one refuses, and why.
REFUSED = {
    "worker_class": "this command is a worker of its own kind",
    "job_class": "jobs are jobs.MandateJob, which is an rq Job",
    "queue_class": "queues are RQ's, read by this worker's own scripts",
}

MOST_TASKS = 100_000  # on one event loop; each has a place of 500 bytes in shared memory


class Command(RunsBesideBadEntries):
    help = (
        "Run the jobs of these queues, in strict order: a job of the first queue goes before all others. "
        "Queues given as `name,weight` take turns by weight. Without names: every queue, in priority order."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("queues", nargs="*", metavar="queue[,weight]")
        parser.add_argument("--concurrency", type=int, help="threads per process (default 10; on SQLite 2)")
        parser.add_argument(
            "--async-concurrency",
            type=int,
            default=0,
            metavar="TASKS",
            help="async commands at once on an event loop in each process (default 0: no loop; threads run them)",
        )
        parser.add_argument("--processes", type=int, default=1, help="processes (default 1)")
        parser.add_argument("--burst", action="store_true", help="exit when the queues are empty")
        parser.add_argument("--name", default="", help="the worker's name (default: host and process)")
        parser.add_argument("--pid", help="file to write the process id to")
        parser.add_argument("--max-jobs", type=int, help="replace a process after this many jobs")
        parser.add_argument("--max-memory", type=int, metavar="MB", help="replace a process that uses more memory")
        parser.add_argument("--max-idle-time", type=int, metavar="SECONDS", help="replace a process idle for longer")
        parser.add_argument("--health-port", type=int, metavar="PORT", help="answer /healthz and /readyz on this port")
        parser.add_argument("--worker-ttl", type=int, help="accepted for django-rq: beats decide which worker is dead")
        parser.add_argument("--with-scheduler", action="store_true", help="accepted: the scheduler is always on")
        parser.add_argument("--serializer", default="json", help="json, the only one supported")
        for option, reason in REFUSED.items():
            parser.add_argument(f"--{option.replace('_', '-')}", help=f"refused: {reason}")

    def handle(self, *args: Any, **options: Any) -> None:
        for option, reason in REFUSED.items():
            if options[option]:
                raise CommandError(f"--{option.replace('_', '-')} {options[option]} is refused: {reason}.")
        if options["serializer"] not in {"json", "rq.serializers.JSONSerializer"}:
            raise CommandError(f"--serializer {options['serializer']} is refused: payloads are JSON. Leave it out.")
        for option in ("concurrency", "processes", "max_jobs", "max_memory", "max_idle_time"):
            if options[option] is not None and options[option] < 1:
                raise CommandError(
                    f"--{option.replace('_', '-')} {options[option]} is impossible: it must be 1 or more."
                )
        if not 0 <= options["async_concurrency"] <= MOST_TASKS:
            raise CommandError(
                f"--async-concurrency {options['async_concurrency']} is impossible: it must be 0 (no event loop) to "
                f"{MOST_TASKS}."
            )
        if options["health_port"] is not None and not 0 < options["health_port"] < 65_536:
            raise CommandError(f"--health-port {options['health_port']} is impossible: ports are 1 to 65535.")
        try:
            if options["name"]:
                names.check_worker(options["name"])
        except ValueError as error:
            raise CommandError(f"--name {error}") from error
        try:
            conf.batch()
            conf.result_limit()
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        if options["with_scheduler"]:
            self.stdout.write("--with-scheduler: the scheduler is always on.")
        settings = WorkerSettings(
            queues=self._queues(options["queues"]),
            concurrency=options["concurrency"] or self._default_concurrency(),
            async_concurrency=options["async_concurrency"],
            processes=options["processes"],
            name=options["name"],
            burst=options["burst"],
            max_jobs=options["max_jobs"],
            max_memory=options["max_memory"],
            max_idle_time=options["max_idle_time"],
            health_port=options["health_port"],
        )
        try:
            parent = Parent(settings)
        except OSError as error:
            raise CommandError(f"--health-port {settings.health_port} cannot be used: {error}.") from error
        if options["pid"]:
            Path(options["pid"]).expanduser().write_text(str(os.getpid()))
        end(self, parent.run())

    def _queues(self, words: list[str]) -> dict[str, int | None]:
        """`["critical", "low"]` in strict order, or `["critical,4", "low,1"]` by weight."""
        chosen: dict[str, int | None] = {}
        for word in words or conf.queues():
            name, comma, weight = word.partition(",")
            try:
                chosen[queues.check(name)] = int(weight) if comma else None
            except ValueError as error:
                raise CommandError(f"{word!r} is no queue: {error}") from error
            if comma and int(weight) < 1:
                raise CommandError(f"{word!r}: a weight must be 1 or more.")
        if len({weight is None for weight in chosen.values()}) > 1:
            raise CommandError("Give every queue a weight, or none: strict and weighted order do not mix.")
        if len(chosen) > PAUSABLE:
            raise CommandError(f"{len(chosen)} queues are too many for one worker; it serves {PAUSABLE} at most.")
        by_server: dict[int, list[str]] = {}
        for name in chosen:
            by_server.setdefault(id(get_connection(name)), []).append(name)
        if len(by_server) > 1:
            commands = "\n".join(f"  manage.py rqworker {' '.join(names)}" for names in by_server.values())
            raise CommandError(f"These queues are on different Redis servers. Run a worker for each:\n{commands}")
        return chosen

    def _default_concurrency(self) -> int:
        if any(connection.vendor == "sqlite" for connection in connections.all()):
            self.stdout.write("2 threads: SQLite has one writer at a time. Change it with --concurrency.")
            return 2
        return 10
