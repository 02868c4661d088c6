"""Change every job that matches a list's filters."""

from jobs import bulk, conf
from jobs.mandate import Mandate


class ChangeMany(Mandate):
    """The dashboard's bulk actions on many jobs. Returns how many were changed, and how many refused it."""

    queue = next(iter(conf.queues()))  # the highest, whatever the project calls it: a person waits
    timeout = 6 * 3_600
    retries = 0  # some jobs are changed by then; a person decides

    change: str
    state: str
    filters: dict[str, str]
    search: str = ""  # what the filters cannot say

    def call(self) -> tuple[int, int]:
        job_id = self.job.id if self.job else ""
        return bulk.carry_out(job_id, self.change, self.state, self.filters, self.search)
