"""`manage.py jobs_doctor`: report what is wrong with the jobs, why it matters, and how to mend it."""

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from jobs import doctor
from jobs.cli.exits import end, quietly
from jobs.cli.output import bear_any_text, json_line
from jobs.doctor import Finding, Severity

EVERY = 10.0  # seconds between examinations with --watch


class Command(BaseCommand):
    help = "Report problems of servers, workers, queues and jobs. Exit status: 0 well, 1 warnings, 2 errors."
    requires_system_checks = ()  # the command must work while things are broken

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print a JSON list of findings")
        parser.add_argument("--watch", action="store_true", help="repeat until Ctrl-C")
        parser.add_argument(
            "--interval", type=float, default=EVERY, help=f"with --watch: seconds between examinations ({EVERY:g})"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["interval"] > 0:
            raise CommandError(f"--interval {options['interval']:g} is impossible: it must be above 0 seconds.")
        bear_any_text(self.stdout)
        with quietly():
            while True:
                findings = doctor.examine()
                if options["watch"] and not options["json"]:
                    self.stdout.write(f"{timezone.localtime():%Y-%m-%d %H:%M:%S}")
                self._print(findings, as_json=options["json"])
                if not options["watch"]:
                    break
                self.stdout.flush()
                time.sleep(options["interval"])
        end(self, max((finding.severity for finding in findings), default=0))

    def _print(self, findings: list[Finding], *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json_line([finding.as_dict() for finding in findings], self.stdout))
            return
        if not findings:
            self.stdout.write(self.style.SUCCESS("All is well."))
        styles: dict[Severity, Any] = {
            Severity.ERROR: self.style.ERROR,
            Severity.WARNING: self.style.WARNING,
            Severity.NOTE: str,
        }
        for finding in findings:
            self.stdout.write(styles[finding.severity](f"{finding.severity.name}: {finding.what}"))
            for name, text in (("why", finding.why), ("mend", finding.mend)):
                if text:
                    self.stdout.write(f"  {name}: {text}")
