"""Every error of the package, in one tree. Each says what was refused, its value, and what to do."""


class JobsError(Exception):
    """The root: `except JobsError` catches whatever this package raises on purpose."""


class CommandDefinitionError(JobsError, TypeError):
    """Raised when a command class cannot work: a field with a reserved name, an impossible option, no `call`."""


class UnknownQueueError(JobsError, ValueError):
    """Raised when a command or a caller names a queue that JOBS["QUEUES"] does not list."""


class SerializationError(JobsError, TypeError):
    """Raised at `defer` when an argument cannot be sent exactly: the message names the argument and its type."""


class RedisUnavailableError(JobsError, ConnectionError):
    """Raised when Redis gave no answer within a second. Nothing is known to have been enqueued."""


class PayloadError(JobsError):
    """Raised when what lies in Redis cannot be run: malformed, or naming what no installed app defines."""


class UnknownCommandError(PayloadError):
    """Raised when a payload names a command that this release does not have."""


class NewerPayloadError(PayloadError):
    """Raised when a payload says that this release is too old to read it."""


class ForbiddenFunctionError(PayloadError):
    """Raised when a payload asks for a function that is neither an installed app's own nor in ALLOWED_FUNCTIONS."""


class MissingRecordError(JobsError):
    """
    Raised when a record that an argument refers to is gone.

    `references` names them all, as the dashboard shows them: `["users.User:7"]`.
    """

    def __init__(self, references: list[str]) -> None:
        super().__init__(f"Records that the arguments refer to are gone: {', '.join(references)}.")
        self.references = references


class PoisonError(JobsError):
    """
    Handed to the functions of `ON_DEAD` with a job that is dead because too many worker processes in a row died by
    themselves while they ran the job. Never raised.

    `workers` names every worker in which the job was interrupted, the last one last: those that were stopped, too.
    """

    def __init__(self, workers: list[str]) -> None:
        super().__init__(f"Poison: worker processes died while they ran this job: {', '.join(workers)}.")
        self.workers = workers


class PrerequisiteError(JobsError, ValueError):
    """Raised at `defer` for a prerequisite that is no job, or that can never be done: deleted, cancelled, elsewhere."""


class PrereqJobNotFinishedError(JobsError):
    """Raised when a job is run although a prerequisite of it is not done: "Unfinished job: <id>"."""


class NotInWorkerError(JobsError, RuntimeError):
    """Raised by `requeue_job` where no worker is there to run the command again."""


class ChangeRefusedError(JobsError):
    """Raised when a person asks of a job what its state does not allow. The message names both."""


class ScheduleError(JobsError, ValueError):
    """Raised for a recurring entry that cannot work, or that does not exist. The message names it and what is wrong."""
