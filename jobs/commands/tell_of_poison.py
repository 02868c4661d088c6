"""Call the handlers for a job that died without an error."""

from jobs import conf
from jobs.attempts import failures
from jobs.broker.times import as_text
from jobs.errors import PoisonError
from jobs.inspection import find
from jobs.mandate import Mandate
from jobs.record import registry


class TellOfPoison(Mandate):
    """Call the handlers of `ON_DEAD` for a job whose workers died while they ran it: none was left to call them."""

    queue = next(iter(conf.queues()))  # the first, if the job's own is unknown
    result_ttl = 0

    dead_job: str

    def call(self) -> None:
        job = find(self.dead_job)
        if job is None or job.command_name is None:
            return  # it was deleted; or it is a plain RQ job, for whose failures they are not called either
        if job.command_name == registry.name_of(type(self)):
            return  # a handler kills workers, and would kill more of them
        workers = as_text(job.connection.hget(job.key, "interrupted_by") or b"").split()
        failures.notify("ON_DEAD", job, PoisonError(workers))
