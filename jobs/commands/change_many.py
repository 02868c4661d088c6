"""Change every job that a list's filters mean."""

from jobs import bulk, conf
from jobs.inspection import JobQuery
from jobs.mandate import Mandate


class ChangeMany(Mandate):
    """What the dashboard's bulk actions do when there are many jobs. Returns what was done, in a sentence."""

    queue = next(iter(conf.queues()))  # the highest, whatever the project calls it: a person waits
    timeout = 3_600
    retries = 0  # some jobs are changed by then; a person looks and decides

    change: str
    state: str
    filters: dict[str, str]

    def call(self) -> str:
        return bulk.apply(self.change, JobQuery.of(self.state, self.filters).all())
