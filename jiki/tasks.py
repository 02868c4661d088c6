"""Direct jobs: what needs no command of its own."""

from django.db import transaction

from jiki import listing
from jobs.tasks import task


@task(queue_name="background")
def warm_listing() -> int:
    """Put the list of exercises into the cache anew, so that no page has to. Returns how many there are."""
    return len(listing.warm())


def renew_listing() -> None:
    """
    Call this where exercises were changed: at the commit the cached list is forgotten, and a job makes it anew.

    Robust: the exercise is saved, and a Redis that is away is no reason to answer its author with an error. The list
    is then old until the next count of the statistics.
    """
    transaction.on_commit(_renew, robust=True)


def _renew() -> None:
    listing.forget()
    warm_listing.enqueue()
