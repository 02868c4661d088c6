"""
Models for tests. The app has no migrations: the test database gets its tables directly, so there are
no foreign keys to an app that has some.
"""

import uuid

from django.db import models

from tests.sample.release import IS_OLD


class Note(models.Model):
    """Any record that a command may be given."""

    class Mood(models.TextChoices):
        CALM = "calm"
        LOUD = "loud"

    text = models.TextField(default="")


class Parcel(models.Model):
    """A record whose key is known before it is saved."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)


class Folder(models.Model):
    """A record whose key is a text with a colon in it."""

    path = models.CharField(max_length=100, primary_key=True)


class Line(models.Model):
    """A record whose key is two columns."""

    pk = models.CompositePrimaryKey("order", "number")
    order = models.CharField(max_length=20)
    number = models.IntegerField()
    text = models.TextField(default="")


class Visible(models.Manager["Guarded"]):
    def get_queryset(self) -> models.QuerySet["Guarded"]:
        return super().get_queryset().filter(hidden=False)


class Guarded(models.Model):
    """A record that the default manager may hide."""

    hidden = models.BooleanField(default=False)
    objects = Visible()


class Run(models.Model):
    """One beginning of a `Record` command; `ended` when it came to its end. Written outside any transaction."""

    number = models.IntegerField()
    ended = models.BooleanField(default=False)


class Batch(models.Model):
    """Some submissions that are processed in slices; `done` counts those that are."""

    done = models.IntegerField(default=0)


class Submission(models.Model):
    """One of a batch; `processed` counts how often it was."""

    batch = models.ForeignKey(Batch, on_delete=models.CASCADE)
    processed = models.IntegerField(default=0)


class Account(models.Model):
    """Money, in cents."""

    balance = models.IntegerField(default=0)


if not IS_OLD:

    class Tool(models.Model):
        """A record that the release before does not know."""

        name = models.CharField(max_length=20)
