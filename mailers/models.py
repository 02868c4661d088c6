"""The record of sent mails."""

from django.db import models
from django.utils import timezone


class SentMail(models.Model):
    """
    A sent mail, so that a job that runs twice does not send it twice.

    `key` identifies the mail among those of its kind. It is no foreign key, so the record outlives the user.
    """

    kind = models.CharField(max_length=50)
    key = models.CharField(max_length=100)
    sent_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=("kind", "key"), name="mailers_sentmail_once")]

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"
