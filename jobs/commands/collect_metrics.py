"""The collector of the figures in releases before 0.2, and in schedules written for them."""

from jobs import conf
from jobs.inspection import attempt_counts, samples
from jobs.mandate import Mandate


class CollectMetrics(Mandate):
    """
    Record each queue's length and the wait of its oldest job; add up the counts of hours that are over.

    The workers' parents do the same, so no schedule needs it.
    """

    queue = list(conf.queues())[-1]  # the lowest, whatever the project calls it
    result_ttl = 0
    retries = 0  # the next one comes in a minute
    expires_in = 60

    def call(self) -> None:
        samples.collect()
        attempt_counts.roll_up()
