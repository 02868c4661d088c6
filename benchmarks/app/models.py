"""The table of a command that is made exactly-once by hand."""

from django.db import models


class Done(models.Model):
    """A job whose effects are committed."""

    job_id = models.CharField(max_length=100, primary_key=True)

    def __str__(self) -> str:
        return self.job_id
