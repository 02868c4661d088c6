"""Prepare the copy of a learner's data."""

from tempfile import TemporaryFile

from django.db import transaction
from django.utils import timezone

from jiki import archive
from jiki.commands.send_export_email import SendExportEmail
from jiki.models import DataExport, DataExportFile, DataExportPart, Submission
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
        self.each(submissions, self.collect, name="collected", total=submissions.count(), chunk=20)
        self.step(self.write)

    def collect(self, submission: Submission) -> None:
        files = {"files": archive.files_of(submission)}
        DataExportPart.objects.update_or_create(export=self.export, submission_id=submission.pk, defaults=files)

    def write(self) -> None:
        """Write the ZIP, and store it and defer the mail with its link in one transaction."""
        parts = self.export.parts.values_list("files", flat=True)
        with TemporaryFile() as file:
            archive.write(self.export.user, parts.iterator(chunk_size=1), file)
            file.seek(0)
            content = file.read()
        with transaction.atomic():
            DataExportFile.objects.update_or_create(export=self.export, defaults={"content": content})
            self.export.parts.all().delete()
            self._update(state=DataExport.State.READY, ready_at=timezone.now())
            SendExportEmail.defer(self.export)

    def on_dead(self, error: BaseException) -> None:
        self.export.parts.all().delete()
        self._update(state=DataExport.State.FAILED)

    def _update(self, **values: object) -> None:
        DataExport.objects.filter(pk=self.export.pk).update(**values)
