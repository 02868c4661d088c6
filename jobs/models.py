"""No table: jobs live in Redis. The model gives the dashboard its place in the admin, and its permissions."""

from django.db import models


class Dashboard(models.Model):
    """What `jobs.view_dashboard` is a permission for."""

    class Meta:
        managed = False
        default_permissions = ("view",)
        verbose_name = verbose_name_plural = "dashboard"

    def __str__(self) -> str:
        return "Background jobs"
