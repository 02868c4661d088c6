"""Tell of a job that died without an error."""

from jobs import conf
from jobs.attempts import failures
from jobs.broker.times import as_text
from jobs.errors import PoisonError
from jobs.inspection import find
from jobs.mandate import Mandate
from jobs.record import registry


class TellOfPoison(Mandate):
    """Call the handlers of `ON_DEAD` for a job under which its workers died: none of them was left to do so."""

    queue = next(iter(conf.queues()))  # whatever the project calls it; the job's own, where that is known
    result_ttl = 0

    dead_job: str

    def call(self) -> None:
        job = find(self.dead_job)
        if job is None or job.command_name is None:
            return  # somebody has deleted it; or it is a plain RQ job, of whose failures they do not hear either
        if job.command_name == registry.name_of(type(self)):
            return  # it is a handler that kills workers, and would kill more
        workers = as_text(job.connection.hget(job.key, "interrupted_by") or b"").split()
        failures.tell("ON_DEAD", job, PoisonError(workers))
