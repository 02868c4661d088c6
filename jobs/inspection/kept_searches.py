"""
The searches that a person has kept under a name.

They lie in Redis, beside the jobs: there they need no table and no migration, and Redis has all else that the dashboard
shows. A person has MOST at most.
"""

from jobs import conf
from jobs.broker import keys
from jobs.broker.connections import get_connection
from jobs.broker.times import as_text
from jobs.errors import ChangeRefusedError
from jobs.inspection.search import Search

MOST = 30  # searches of one person
LONGEST_NAME = 60  # characters


def of(user: str) -> list[tuple[str, str]]:
    """Return a person's searches by name. One round trip."""
    kept = get_connection(_queue()).hgetall(keys.searches(user))
    return sorted((as_text(name), as_text(search)) for name, search in kept.items())


def keep(user: str, name: str, search: str) -> None:
    """Keep a search, in the place of one of the same name. Raises SearchError, and ChangeRefusedError for too many."""
    name = " ".join(name.split())
    if not 0 < len(name) <= LONGEST_NAME:
        raise ChangeRefusedError(f"The name of a saved search has 1 to {LONGEST_NAME} characters, not {len(name)}.")
    kept, client = str(Search.parse(search)), get_connection(_queue())
    if not client.hexists(keys.searches(user), name) and client.hlen(keys.searches(user)) >= MOST:
        raise ChangeRefusedError(f"You have {MOST} saved searches, the most that are allowed. Delete one first.")
    client.hset(keys.searches(user), name, kept)


def forget(user: str, name: str) -> None:
    """Forget a search."""
    get_connection(_queue()).hdel(keys.searches(user), name)


def _queue() -> str:
    return next(iter(conf.queues()))
