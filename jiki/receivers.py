"""What happens when an exercise is saved or deleted."""

from typing import Any

from django.db import transaction
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from jiki import listing
from jiki.models import Exercise
from jiki.tasks import warm_listing


@receiver((post_save, post_delete), sender=Exercise)
def renew_the_listing(using: str, **_: Any) -> None:
    """
    Forget the cached list at the commit, and have it made anew.

    Robust: the exercise is saved, and a Redis that is away is no reason to answer its author with an error. The list
    is then old until the next count.
    """
    transaction.on_commit(_renew, using=using, robust=True)


def _renew() -> None:
    listing.forget()
    warm_listing.enqueue()
