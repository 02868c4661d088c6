"""`manage.py rqscheduler`: run the scheduler in its own process, under django-rq's name. Workers run it, too."""

import os
import signal
from pathlib import Path
from typing import Any, cast

import django_rq
from django.core.management.base import CommandError, CommandParser

from jobs import conf, queues, scheduler
from jobs.cli.checked import RunsBesideBadEntries
from jobs.errors import ScheduleError
from jobs.recurring import entry


class Command(RunsBesideBadEntries):
    help = "Push the runs of recurring entries. Every worker does that, too; this command does nothing else."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--interval", "-i", type=float, default=scheduler.POLL, help="seconds between checks")
        parser.add_argument("--queue", default="", help="a queue of the server to serve (default: the first queue)")
        parser.add_argument("--pid", help="file to write the process id to")
        parser.add_argument("--burst", action="store_true", help="check once, then exit")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["interval"] > 0:
            raise CommandError(f"--interval {options['interval']} is impossible: it must be above 0.")
        queue = queues.check(options["queue"] or next(iter(conf.queues())))
        if options["pid"]:
            Path(options["pid"]).expanduser().write_text(str(os.getpid()))
        try:
            entry.listed()
        except ScheduleError as error:
            raise CommandError(str(error)) from error
        process = cast(scheduler.Scheduler, django_rq.get_scheduler(queue, interval=options["interval"]))
        for wrong in process.follow():
            self.stderr.write(wrong)
        wake, other_end = os.pipe()
        os.set_blocking(other_end, False)
        signal.set_wakeup_fd(other_end)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        process.run(burst=options["burst"], stop=wake)
