"""
The models. Jobs live in Redis: `Dashboard` has no table, it gives the dashboard its place in the admin, and its
permissions. `Unsent` is the outbox: durable jobs that Redis does not have yet. `Receipt` is what an atomic command
leaves in the database, `Cursor` how far an atomic loop has come.
"""

from django.db import models
from django.utils import timezone


class NoRows(models.Manager[models.Model]):
    """Finds nothing: there is no table. `dumpdata` asks every model for its rows."""

    def get_queryset(self) -> models.QuerySet[models.Model]:
        return super().get_queryset().none()


class Dashboard(models.Model):
    """The object of `jobs.view_dashboard` and the other permissions."""

    objects = NoRows()

    class Meta:
        managed = False
        base_manager_name = "objects"  # for `dumpdata --all`
        default_permissions = ("view",)
        permissions = [
            ("retry_job", "Can retry jobs and run them now"),
            ("delete_job", "Can delete jobs"),
            ("cancel_job", "Can cancel and interrupt jobs"),
            ("pause_queue", "Can pause queues and recurring entries"),
            ("control_workers", "Can quiet and stop workers"),
            ("view_payloads", "Can view raw payloads"),
            ("view_activity", "Can view who changed what"),
        ]
        verbose_name = verbose_name_plural = "dashboard"

    def __str__(self) -> str:
        return "Background jobs"


class Unsent(models.Model):
    """
    A durable job between the database and Redis: inserted in the transaction that defers it, deleted when Redis has it.
    With JOBS["OUTBOX_KEEP"] it stays until the job has ended, and `sent_at` says when Redis got it.
    """

    id = models.BigAutoField(primary_key=True)
    job_id = models.CharField(max_length=64, unique=True)
    server = models.CharField(max_length=255)  # its address when the job was deferred, for people
    queue = models.CharField(max_length=255)
    packed = models.BinaryField()  # by `jobs.record.packed`
    due = models.DateTimeField(null=True)
    created = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["sent_at", "id"], name="jobs_unsent_in_order")]  # the relay's, and the oldest
        verbose_name = "unsent job"

    def __str__(self) -> str:
        return self.job_id


class Receipt(models.Model):
    """
    Says that an atomic command has happened: it is committed with the command's effects. See `jobs.outbox.receipts`.

    `forgotten_at` is when its job was first found to have no record in Redis; it is kept for a day from then on.
    """

    id = models.UUIDField(primary_key=True)  # of the job, or a digest of an id that `defer` has not made
    other_id = models.BinaryField(null=True)  # such an id, as of a recurring entry's run
    result = models.BinaryField(null=True)  # of `call`, as JSON
    created_at = models.DateTimeField(default=timezone.now)
    forgotten_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"receipt of job {self.id if self.other_id is None else bytes(self.other_id)!r}"


class Cursor(models.Model):
    """
    How far a loop with atomic=True has come: committed with each chunk of its items. See `jobs.steps.chunks`.

    `version` counts the chunks; each begins with an UPDATE of the version that its attempt has read. `forgotten_at` is
    that of `Receipt`.
    """

    id = models.UUIDField(primary_key=True)  # a digest of job, step and life
    other_id = models.BinaryField()  # of the job
    step = models.CharField(max_length=100)
    cursor = models.BinaryField(null=True)  # JSON: the key of the last item that is done, or the number of items
    done = models.BigIntegerField(default=0)  # items
    version = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now)
    forgotten_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"cursor of job {bytes(self.other_id)!r}, step {self.step!r}"
