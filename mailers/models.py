"""The record of mails that were sent."""

from django.db import models
from django.utils import timezone


class SentMail(models.Model):
    """
    One mail that was sent, so that a job that runs twice does not send it twice.

    `key` is what makes it one mail among those of its kind; it names no table, so the record outlives the user.
    """

    kind = models.CharField(max_length=50)
    key = models.CharField(max_length=100)
    sent_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=("kind", "key"), name="mailers_sentmail_once")]

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"
