"""`manage.py jobs`: show jobs and queues, and change them, from a terminal or a script."""

import re
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from jobs.cli import AWAY, REFUSED, change, show
from jobs.cli import limits as limited
from jobs.cli import run as running
from jobs.cli import stats as live
from jobs.cli.batches import CHANGES as OF_BATCHES
from jobs.cli.batches import batches, flows
from jobs.cli.exits import end, quietly
from jobs.cli.output import Output, did_you_mean
from jobs.cli.recurring import CHANGES as OF_ENTRIES
from jobs.cli.recurring import recurring
from jobs.cli.selection import add_filters
from jobs.errors import JobsError, RedisUnavailableError

CHANGES = {
    "retry": "run dead, discarded or cancelled jobs again, or retrying ones at once",
    "run-now": "run scheduled jobs before their due time, and waiting jobs without their prerequisites",
    "cancel": "keep jobs from running, or interrupt those that run",
    "delete": "remove jobs",
}


INVALID = re.compile(r"invalid choice: '(.+?)' \(choose from (.+)\)$")


def _suggest(parser: CommandParser) -> None:
    """Let the parser name the choice that a wrong one is most similar to."""
    refuse = parser.error

    def error(message: str) -> Any:
        if found := INVALID.search(message):
            known = found[2].replace("'", "").split(", ")
            message = f"{message[: found.start()]}{found[1]!r} is none of {', '.join(known)}."
            message += did_you_mean(found[1], known)
        refuse(message)

    parser.error = error  # type: ignore[method-assign]


class Command(BaseCommand):
    help = "Show jobs and queues, and change them. Exit status: 0 done, 1 refused or failed, 2 usage, 3 no Redis."
    requires_system_checks = ()  # the command must work while things are broken

    def add_arguments(self, parser: CommandParser) -> None:
        _suggest(parser)
        subparsers = parser.add_subparsers(dest="what", required=True, metavar="COMMAND")

        def add(name: str, help: str, action: Any) -> CommandParser:
            added: CommandParser = subparsers.add_parser(name, help=help, description=f"{help.capitalize()}.")
            added.add_argument("--json", action="store_true", help="print JSON")
            added.set_defaults(action=action)
            _suggest(added)
            return added

        stats = add("stats", "queues, rates and workers; live on a terminal until Ctrl-C", live.stats)
        stats.add_argument("--once", action="store_true", help="print the figures once and exit")
        stats.add_argument("--interval", type=float, default=2.0, help="seconds between updates (default 2)")
        listed = add("list", "jobs in any state, unless a filter names one", show.list_jobs)
        listed.add_argument("terms", nargs="*", metavar="SEARCH", help="such as args.user:7 state:dead since:1h")
        add_filters(listed, limit=50)
        listed.add_argument("--header", action="store_true", help="name the columns in piped output, too")
        shown = add("show", "all details of jobs", show.show)
        shown.add_argument("ids", nargs="+", metavar="ID")
        for name, help in CHANGES.items():
            changed = add(name, help, change.change(name.replace("-", "_")))
            self._add_change(changed)
            if name == "run-now":
                changed.add_argument("--force", action="store_true", help="go past the limits that jobs wait for, too")
        moved = add("move", "move queued jobs to another queue of their server", change.move)
        self._add_change(moved)
        moved.add_argument("--to", required=True, metavar="QUEUE", help="the target queue")
        anew = add(
            "begin-anew", "have jobs do their steps anew, those that are dead or retrying at once", change.begin_anew
        )
        anew.add_argument("ids", nargs="+", metavar="ID")
        anew.add_argument("--step", default="", metavar="STEP", help="go on from this step, instead of the first one")
        for name, help, action in (
            ("pause", "stop taking jobs from queues", change.pause),
            ("resume", "take jobs from queues again", change.resume),
        ):
            add(name, help, action).add_argument("queues", nargs="+", metavar="QUEUE")
        entries = add("recurring", "list recurring entries, or pause, resume or run them", recurring)
        entries.add_argument("change", nargs="?", default="list", choices=["list", *OF_ENTRIES], help="default: list")
        entries.add_argument("names", nargs="*", metavar="NAME", help="the entries' names")
        entries.add_argument("--header", action="store_true", help="name the columns in piped output, too")
        limited.add_arguments(add("limits", "list limits and their use, or pause, resume and set them", limited.limits))
        for name, help, action in (
            ("batches", "list batches, or retry the dead jobs of some, cancel or seal them", batches),
            ("flows", "the same for flows", flows),
        ):
            of_batches = add(name, help, action)
            of_batches.add_argument("change", nargs="?", default="list", choices=["list", *OF_BATCHES])
            of_batches.add_argument("ids", nargs="*", metavar="ID", help="the batches' ids")
            of_batches.add_argument("--header", action="store_true", help="name the columns in piped output, too")
        add("relay", "send the durable jobs of the outbox now; workers do it by themselves", change.relay)
        run = add("run", "run a command here, or defer it", running.run)
        run.add_argument("name", metavar="COMMAND", help="such as users.SendWelcomeEmail")
        run.add_argument(
            "--args", dest="by_position", default="[]", metavar="JSON", help="its fields by position, as a list"
        )
        run.add_argument(
            "--kwargs", dest="by_name", default="{}", metavar="JSON", help="its fields by name, as an object"
        )
        run.add_argument("--defer", action="store_true", help="enqueue it as a job for the workers")
        run.add_argument("--queue", help="with --defer: the queue, instead of the command's own")
        run.add_argument("--wait", type=float, metavar="SECONDS", help="with --defer: delay before it runs")
        run.add_argument("--follow", action="store_true", help="with --defer: wait until it ends")
        run.add_argument(
            "--timeout", type=float, metavar="SECONDS", help="with --follow: stop waiting then, with exit status 1"
        )

    def _add_change(self, parser: CommandParser) -> None:
        parser.add_argument("ids", nargs="*", metavar="ID", help="job ids; without ids, filters select the jobs")
        add_filters(parser, limit=None)
        parser.add_argument(
            "--yes", action="store_true", help="do not ask for confirmation when filters select the jobs"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        output = Output(self.stdout, self.stderr, as_json=options["json"])
        try:
            with quietly():
                code = options["action"](output, options)
        except (RedisConnectionError, RedisTimeoutError) as error:
            message = f"No answer from Redis: {str(error).rstrip('.')}. Check that it runs and that REDIS_URL is right."
            raise CommandError(message, returncode=AWAY) from error
        except RedisUnavailableError as error:
            raise CommandError(str(error), returncode=AWAY) from error
        except RedisError as error:
            raise CommandError(f"Redis refuses: {error}", returncode=AWAY) from error
        except DatabaseError as error:
            raise CommandError(f"The database refuses: {error}", returncode=REFUSED) from error
        except (JobsError, ValueError, ImproperlyConfigured) as error:
            raise CommandError(str(error), returncode=REFUSED) from error
        end(self, code)
