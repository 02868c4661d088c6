"""Tasks: jobs that need no command of their own."""

from django.db import transaction

from jiki import listing
from jobs.tasks import task


@task(queue_name="background")
def warm_listing() -> int:
    """Renew the cached list of exercises, so that no page has to. Returns the number of exercises."""
    return len(listing.warm())


def renew_listing() -> None:
    """
    Call this after a change of exercises: at the commit the cached list is deleted, and a job renews it.

    Robust: the exercise is saved, so a failure of Redis must not become an error page. The list is then stale until
    the next refresh of the statistics.
    """
    transaction.on_commit(_renew, robust=True)


def _renew() -> None:
    listing.forget()
    warm_listing.enqueue()
