"""Prepare the copy of a learner's data."""

from tempfile import TemporaryFile

from django.db import transaction
from django.utils import timezone

from jiki import archive
from jiki.commands.send_export_email import SendExportEmail
from jiki.models import DataExport, DataExportFile
from jobs import Mandate, RetryOn


class PrepareExport(Mandate):
    """Write the ZIP, and store it and defer the mail with its link in one transaction."""

    queue = "low"
    timeout = 900
    retry_on = [RetryOn(archive.ArchiveTooLargeError, attempts=1)]  # dead at once: retries cannot help
    export: DataExport

    def call(self) -> None:
        if self.export.state == DataExport.State.READY:
            return  # an earlier run has prepared it, and died afterwards
        self._update(state=DataExport.State.PREPARING)
        with TemporaryFile() as file:
            archive.write(self.export.user, file, self.report)
            file.seek(0)
            content = file.read()
        with transaction.atomic():
            DataExportFile.objects.update_or_create(export=self.export, defaults={"content": content})
            self._update(state=DataExport.State.READY, ready_at=timezone.now())
            SendExportEmail.defer(self.export)

    def on_dead(self, error: BaseException) -> None:
        self._update(state=DataExport.State.FAILED)

    def _update(self, **values: object) -> None:
        DataExport.objects.filter(pk=self.export.pk).update(**values)
