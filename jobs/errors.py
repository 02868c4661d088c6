"""Every error of the package, in one tree. Each message names what was refused, its value, and a remedy."""


class JobsError(Exception):
    """The base class: `except JobsError` catches every error that this package raises on purpose."""


class CommandDefinitionError(JobsError, TypeError):
    """Raised for an invalid command class: a field with a reserved name, an impossible option, no `call`."""


class UnknownQueueError(JobsError, ValueError):
    """Raised when a command or a caller names a queue that JOBS["QUEUES"] does not list."""


class SerializationError(JobsError, TypeError):
    """Raised at `defer` if an argument cannot be serialized exactly. The message names the argument and its type."""


class RedisUnavailableError(JobsError, ConnectionError):
    """Raised if Redis does not answer within a second. Whether anything was enqueued is unknown."""


class PayloadError(JobsError):
    """Raised if a payload cannot be run: it is malformed, or names something that no installed app defines."""


class UnknownCommandError(PayloadError):
    """Raised when a payload names a command that this release does not have."""


class NewerPayloadError(PayloadError):
    """
    Raised if a payload is of a version that this release is too old to read, or names what this release does not have:
    a task, a model, a database, an Enum member, a field of the command.
    """


class ForbiddenFunctionError(PayloadError):
    """Raised if a payload names a function that is neither an installed app's own nor in ALLOWED_FUNCTIONS."""


class MissingRecordError(JobsError):
    """
    Raised when a record that an argument refers to is gone.

    `references` names all missing records, as the dashboard shows them: `["users.User:7"]`.
    """

    def __init__(self, references: list[str]) -> None:
        super().__init__(f"Records that the arguments refer to are gone: {', '.join(references)}.")
        self.references = references


class PoisonError(JobsError):
    """
    Passed to the functions of `ON_DEAD` with a job that is dead because too many worker processes in a row died by
    themselves while they ran it. Never raised.

    `workers` names every worker in which the job was interrupted, in order, including workers that were stopped.
    """

    def __init__(self, workers: list[str]) -> None:
        super().__init__(f"Poison: worker processes died while they ran this job: {', '.join(workers)}.")
        self.workers = workers


class PrerequisiteError(JobsError, ValueError):
    """Raised at `defer` for a prerequisite that is not a job, or can never finish: deleted, cancelled, elsewhere."""


class DurabilityError(JobsError, RuntimeError):
    """Raised at `defer` of a durable job that would not be durable: a transaction of another database is open, too."""


class LimitError(JobsError, ValueError):
    """Raised for a limit that no command declares, and for a change that it does not take. The message names it."""


class BatchError(JobsError, ValueError):
    """Raised for a batch that is invalid: too deep, on two servers, with a callback that is not prepared."""


class FlowError(BatchError):
    """Raised by `flow.add` for a step that cannot be: after a step of another flow, with a result that there is not."""


class BatchEndedError(BatchError):
    """Raised for jobs that are added to a batch which has ended or was cancelled."""


class BatchNotFoundError(BatchError, LookupError):
    """Raised for the id of a batch that was never written, or is forgotten."""


class OverLimitError(JobsError):
    """
    Raised by `limit` if its block would be delayed for too long. `seconds`: when it may begin. A job that raises it
    runs again at that time, without using a retry.
    """

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(f"The rate of {name!r} admits nothing for {seconds:.3g} s. Wait so long, or raise its `wait`.")
        self.name, self.seconds = name, seconds


class PrereqJobNotFinishedError(JobsError):
    """Raised if a job is run before a prerequisite of it has finished: "Unfinished job: <id>"."""


class NotInWorkerError(JobsError, RuntimeError):
    """Raised by `requeue_job` if no worker is running the command."""


class WaitRefusedError(JobsError, RuntimeError):
    """
    Raised at once by the waits for a job or a batch if there is nothing to wait for: the transaction that enqueues the
    job or writes the batch has not committed, or was rolled back; the job's command has `result_ttl = 0`; the batch's
    block is open, or the job that waits is a member.
    """


class WaitTimeoutError(JobsError, TimeoutError):
    """Raised by the waits for a job or a batch if it has not ended in time. It goes on."""


class JobFailedError(JobsError):
    """
    Raised by `job.wait` and `job.await_result` for a job that has not finished and never will.

    `job_id`; `state`: "dead", "discarded", "cancelled" or "deleted"; `reason`: the last error in one line, or who
    cancelled it.
    """

    def __init__(self, message: str, job_id: str = "", state: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.job_id, self.state, self.reason = job_id, state, reason


class ResultUnavailableError(JobsError):
    """
    Raised by `job.wait` and `job.await_result` for a job that has finished, and whose result is not kept: it has
    expired, was over JOBS["RESULT_LIMIT"], or cannot be serialized.
    """


class StepError(JobsError, RuntimeError):
    """
    Raised by `step` and `each`: a name is used twice, a step begins inside another one, a release has changed the order
    of the steps, or something cannot be recorded.
    """


class CheckpointError(JobsError, RuntimeError):
    """Raised by `step` and `each` inside an open transaction, and so in an atomic command."""


class ConnectionAcrossCallsError(JobsError, RuntimeError):
    """
    Raised on a worker's event loop by a call of `sync_to_async` that leaves a transaction open, or uses the database
    connection of an earlier call. Put what needs one connection into one sync function.
    """


class LoopBlockedError(JobsError, RuntimeError):
    """The failure of an async command that has kept a worker's event loop, and all its other jobs, for too long."""


class ChangeRefusedError(JobsError):
    """Raised for a change that a job's state does not allow. The message names both."""


class ScheduleError(JobsError, ValueError):
    """Raised for a recurring entry that is invalid or does not exist. The message names the entry and the problem."""


class MissingExtraError(JobsError, ImportError):
    """Raised when a feature needs a package of an extra that is not installed. Everything else works without it."""

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(f"{feature} needs {package}. Install it: pip install 'django-mandate[{extra}]'", name=package)
