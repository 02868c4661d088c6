"""The same change to many jobs."""

from collections.abc import Callable, Iterable

from rq.job import Job

from jobs import control
from jobs.errors import ChangeRefusedError
from jobs.rows import Row

CHANGES: dict[str, Callable[[Job], object]] = {
    "retry": control.retry,
    "run_now": control.run_now,
    "cancel": control.cancel,
    "delete": control.delete,
}
DONE = {"retry": "retried", "run_now": "set running", "cancel": "cancelled", "delete": "deleted"}


def apply(name: str, found: Iterable[Row | Job]) -> str:
    """
    Make the change of that name to each. Returns how many were changed, and how many refused it, in a sentence.

    Raises KeyError for a name that there is not.
    """
    change = CHANGES[name]
    changed = refused = 0
    for each in found:
        try:
            change(each.job if isinstance(each, Row) else each)
            changed += 1
        except ChangeRefusedError:
            refused += 1
    told = f"{changed:,} jobs were {DONE[name]}."
    return f"{told} {refused:,} could not be: they are in another state by now." if refused else told
