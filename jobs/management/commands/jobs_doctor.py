"""`manage.py jobs_doctor`: what is wrong with the jobs, why it matters, and what mends it."""

import time
from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandParser

from jobs import doctor
from jobs.doctor import Finding, Severity

EVERY = 10  # seconds between two looks with --watch


class Command(BaseCommand):
    help = "Say what is wrong with servers, workers, queues and jobs. Exit status: 0 well, 1 warnings, 2 errors."
    requires_system_checks = ()  # it is for when things are broken

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="a JSON list of findings")
        parser.add_argument("--watch", action="store_true", help=f"look again every {EVERY} s until Ctrl-C")

    def handle(self, *args: Any, **options: Any) -> None:
        while True:
            found = doctor.examine()
            self._tell(found, as_json=options["json"])
            if not options["watch"]:
                raise SystemExit(max((finding.severity for finding in found), default=0))
            time.sleep(EVERY)

    def _tell(self, found: list[Finding], *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(orjson.dumps([finding.as_dict() for finding in found]).decode())
            return
        if not found:
            self.stdout.write(self.style.SUCCESS("All is well."))
        styles: dict[Severity, Any] = {
            Severity.ERROR: self.style.ERROR,
            Severity.WARNING: self.style.WARNING,
            Severity.NOTE: str,
        }
        for finding in found:
            self.stdout.write(styles[finding.severity](f"{finding.severity.name}: {finding.what}"))
            for name, text in (("why", finding.why), ("mend", finding.mend)):
                if text:
                    self.stdout.write(f"  {name}: {text}")
