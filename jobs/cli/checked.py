"""The system checks before a worker or a scheduler starts."""

from typing import Any

from django.core.checks import run_checks
from django.core.management.base import BaseCommand, SystemCheckError

OF_ENTRIES = ("jobs.E007", "jobs.E008")


class RunsBesideBadEntries(BaseCommand):
    """A command that reports wrong recurring entries, and starts: it leaves them out, and all jobs would wait."""

    def check(self, *args: Any, **options: Any) -> None:
        """Run the checks. SystemCheckError for any other error."""
        try:
            super().check(*args, **options)
        except SystemCheckError as error:
            found = run_checks(tags=options.get("tags"), databases=options.get("databases"))
            if any(each.is_serious() and not each.is_silenced() and each.id not in OF_ENTRIES for each in found):
                raise
            self.stderr.write(str(error))
