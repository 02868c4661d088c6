"""Prepare the copy of a learner's data."""

from functools import partial

from django.db import transaction

from jiki import archive
from jiki.commands.send_export_email import SendExportEmail
from jiki.models import DataExport
from jobs import Mandate, RetryOn


class PrepareExport(Mandate):
    """Collect what the ZIP has of each submission, and go on there after a deployment; then write the ZIP."""

    queue = "low"
    timeout = 900
    retry_on = [RetryOn(archive.ArchiveTooLargeError, attempts=1)]  # dead at once: retries cannot help
    export: DataExport

    def call(self) -> None:
        if self.export.state == DataExport.State.READY:
            return  # an earlier run has prepared it, and died afterwards
        self._update(state=DataExport.State.PREPARING)
        submissions = self.export.user.submissions.select_related("exercise")
        self.each(submissions, partial(archive.collect, self.export), total=submissions.count(), chunk=20)
        self.step(self.write)

    def write(self) -> None:
        """Write the ZIP, and store it and defer the mail with its link in one transaction."""
        content = archive.of(self.export)
        with transaction.atomic():
            self.export.store(content)
            SendExportEmail.defer(self.export)

    def on_dead(self, error: BaseException) -> None:
        self._update(state=DataExport.State.FAILED)

    def _update(self, **values: object) -> None:
        DataExport.objects.filter(pk=self.export.pk).update(**values)
