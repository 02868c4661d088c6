"""Direct jobs: what needs no command of its own."""

from jiki import listing
from jobs.direct import task


@task(queue_name="background")
def warm_listing() -> int:
    """Put the list of exercises into the cache anew, so that no page has to. Returns how many there are."""
    return len(listing.warm())
