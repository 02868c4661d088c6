"""No table: jobs live in Redis. The model gives the dashboard its place in the admin, and its permissions."""

from django.db import models


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
