"""A claim: one job that this worker has taken, as the step script returns it."""

from typing import Any, NamedTuple

from jobs import runtime
from jobs.broker.times import DAY, as_text
from jobs.client.options import DEFAULTS
from jobs.record import more
from jobs.record.payload import inflated
from jobs.retries import Progress
from jobs.steps.checkpoints import Checkpoints

DEFAULT_TIMEOUT: float = DEFAULTS["timeout"]  # seconds
DEFAULT_TTL: int = DEFAULTS["result_ttl"]  # seconds
TEN_YEARS = 10 * 365 * DAY  # seconds


class Row(NamedTuple):
    """One claim as the step script answers it; the last item, a list, stands for those of Rare and More."""

    id: bytes
    queue: bytes
    execution: bytes
    data: bytes
    more: list[Any] | bytes  # empty: none of it


class Rare(NamedTuple):
    """Fields that few jobs have; More follows where the job has any of that."""

    timeout: bytes = b""
    result_ttl: bytes = b""
    interruptions: bytes = b""
    is_plain: int = 0  # whether RQ's own code made the job
    letters: bytes = b""  # its field `more`


class More(NamedTuple):
    """What still fewer jobs have, and is read only of those."""

    progress: bytes = b""
    expires_at: bytes = b""
    has_prerequisites: int = 0
    context: bytes = b""
    schedule: bytes = b""  # the recurring entry whose run it is
    profile: bytes = b""  # whether its attempts are profiled
    is_kept: bytes = b""  # whether the outbox has it until it ends
    limits: bytes = b""  # the limits whose slots it owns
    steps: bytes = b""  # how far its steps have come
    batches: bytes = b""  # the ids of the batches whose member it is, with spaces
    callback: bytes = b""  # the batch that it calls back for
    on_failure: bytes = b""  # of the step of a flow: `run` or `cancel`, if a step before it did not finish


NOTHING_MORE = More()
ROW_LENGTH, RARE_LENGTH = len(Row._fields), len(Rare._fields)


def rows(words: list[Any]) -> list[list[Any]]:
    """Return the rows of the script's answer, the items of all claims in one list."""
    return [words[at : at + ROW_LENGTH] for at in range(0, len(words), ROW_LENGTH)]


class Claim:
    """
    What is needed to run a job, in the bytes that came from Redis: most of it is looked at once, or never.

    `execution` identifies this taking of the job: `<worker name>.<number>`. The outcome is committed only while Redis
    still holds the claim under it.
    """

    __slots__ = (
        "checkpoints",
        "data",
        "deadline",
        "execution",
        "id",
        "interruptions",
        "is_plain",
        "letters",
        "more",
        "queue",
        "reporter",
        "result_ttl",
        "started",
        "timeout",
    )

    def __init__(self, row: list[Any]) -> None:
        """`row`: the items of a Row."""
        self.id, self.queue, self.execution, self.data, rare = row
        if rare:
            self.timeout, self.result_ttl, self.interruptions, self.is_plain, letters = rare[:RARE_LENGTH]
            self.letters = as_text(letters)
            self.more = More(*rare[RARE_LENGTH:])
        else:
            self.timeout = self.result_ttl = self.interruptions = b""
            self.is_plain, self.letters, self.more = 0, "", NOTHING_MORE
        self.reporter: Any = None  # of an attempt that reports its progress
        self.started = 0.0  # monotonic seconds
        self.deadline = 0.0
        self.checkpoints: Checkpoints | None = None  # of this attempt, if it has steps

    def keep_steps(self) -> Checkpoints:
        """Return the checkpoints of this attempt. Raises StepError if the record's field cannot be read."""
        if self.checkpoints is None:
            self.checkpoints = Checkpoints(self)
        return self.checkpoints

    @property
    def progress(self) -> Progress:
        """What the job has been through before. ValueError when somebody has tampered with it."""
        return Progress.load(self.more.progress)

    @property
    def is_async(self) -> bool:
        """Whether its record says that the command's `call` is a coroutine function."""
        return more.ASYNC in self.letters

    @property
    def is_expired(self) -> bool:
        """Whether it is too late to begin the job. One that has begun before is not."""
        has_begun = self.more.progress or self.more.steps or self.interruptions
        return bool(self.more.expires_at) and not has_begun and self._is_past()

    def _is_past(self) -> bool:
        try:
            return float(self.more.expires_at) < runtime.now()
        except ValueError:  # not a number: a payload never stops a thread
            return False

    @property
    def worker(self) -> str:
        """The worker that took it."""
        return as_text(self.execution).rpartition(".")[0]

    @property
    def limit(self) -> float | None:
        """Seconds that the attempt may take; None: as long as it likes. RQ writes that as -1."""
        try:
            seconds = float(self.timeout)
        except ValueError:  # not given, or not a number: a payload never stops a thread
            seconds = DEFAULT_TIMEOUT
        return seconds if seconds > 0 else None

    @property
    def ttl(self) -> int:
        """Seconds that the finished job is kept. RQ's -1, for ever, is ten years here, and so is all that is more."""
        try:
            seconds = int(self.result_ttl)
        except ValueError:
            seconds = DEFAULT_TTL
        return seconds if 0 <= seconds <= TEN_YEARS else TEN_YEARS

    @property
    def payload(self) -> bytes:
        """The payload, not compressed."""
        return inflated(self.data)

    @property
    def job_id(self) -> str:
        return as_text(self.id)

    @property
    def queue_name(self) -> str:
        return as_text(self.queue)
