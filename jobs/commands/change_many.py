"""Change every job that a list's filters mean."""

from jobs.dashboard import actions, lists
from jobs.mandate import Mandate


class ChangeMany(Mandate):
    """What the dashboard's bulk actions do when there are many jobs. Returns what was done, in a sentence."""

    timeout = 3_600
    retries = 0  # some jobs are changed by then; a person looks and decides

    change: str
    state: str
    filters: dict[str, str]

    def call(self) -> str:
        return actions.apply(self.change, lists.query_of(self.filters, self.state).all())
