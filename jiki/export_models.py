"""The models of exports: a request, what it has collected so far, and its ZIP."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import models
from django.utils import timezone


class DataExport(models.Model):
    """A learner's request for a copy of her data, and its state."""

    KEPT = timedelta(days=7)  # how long an export can be downloaded
    AGAIN_AFTER = timedelta(hours=1)  # how long after one request the next is accepted

    class State(models.TextChoices):
        QUEUED = "queued", "queued"
        PREPARING = "preparing", "being prepared"
        READY = "ready", "ready"
        FAILED = "failed", "failed"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="exports")
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    job_id = models.CharField(
        max_length=64,
        blank=True,
        default="",
        db_default="",  # so that the previous release can add rows during the rollout
        help_text="Of the job that prepares it.",
    )
    asked_at = models.DateTimeField(default=timezone.now)
    ready_at = models.DateTimeField(null=True, blank=True, db_index=True)

    class Meta:
        ordering = ("-asked_at", "-pk")

    def __str__(self) -> str:
        return f"export of {self.user}"

    @property
    def is_open(self) -> bool:
        """Whether it is queued or being prepared."""
        return self.state in (self.State.QUEUED, self.State.PREPARING)

    @property
    def again_at(self) -> datetime:
        """The time from which she may request the next one."""
        return self.asked_at + self.AGAIN_AFTER

    @property
    def expires_at(self) -> datetime | None:
        """The time until which it can be downloaded; None until it is ready."""
        return self.ready_at + self.KEPT if self.ready_at else None

    def store(self, content: bytes) -> None:
        """Store its ZIP, in the place of its parts. Call it in a transaction."""
        DataExportFile.objects.update_or_create(export=self, defaults={"content": content})
        self.parts.all().delete()
        DataExport.objects.filter(pk=self.pk).update(state=self.State.READY, ready_at=timezone.now())


class DataExportPart(models.Model):
    """The files of one submission in an export that is being prepared. They are deleted once the ZIP is written."""

    export = models.ForeignKey(DataExport, on_delete=models.CASCADE, related_name="parts")
    submission_id = models.BigIntegerField()
    files = models.JSONField(help_text="Pairs of path and text.")

    class Meta:
        ordering = ("submission_id",)
        constraints = [models.UniqueConstraint(fields=("export", "submission_id"), name="jiki_part_once")]

    def __str__(self) -> str:
        return f"submission {self.submission_id} in the {self.export}"


class DataExportFile(models.Model):
    """The ZIP of an export, in a row of its own, so that it is loaded only for the download."""

    export = models.OneToOneField(DataExport, on_delete=models.CASCADE, primary_key=True, related_name="file")
    content = models.BinaryField()

    def __str__(self) -> str:
        return f"file of {self.export}"
