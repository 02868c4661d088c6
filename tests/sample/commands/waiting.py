"""Commands that are waited for, that wait, and that report their progress."""

from typing import Any

from jobs import Batch, Mandate, MandateJob, Rate, limit


class Lose(Mandate):
    """Returns what no job can keep."""

    def call(self) -> Any:
        return object()


class Forget(Mandate):
    """Nothing is kept of its end."""

    result_ttl = 0

    def call(self) -> int:
        return 7


class WaitFor(Mandate):
    """Waits for another job."""

    job_id: str
    timeout_of_wait: float = 0.0

    def call(self) -> Any:
        assert self.job is not None
        other = MandateJob.fetch(self.job_id, connection=self.job.connection)
        return other.wait(self.timeout_of_wait)


class WaitTooLong(Mandate):
    """Waits in vain for far longer than its time-out, in one of the waits of the engine."""

    timeout = 1
    retries = 0
    how: str

    def call(self) -> None:
        if self.how == "job":
            Measure.using(wait=600).defer(1).wait()
        elif self.how == "itself":
            assert self.job is not None
            self.job.wait()
        elif self.how == "batch":
            with Batch("never") as batch:
                Measure.using(wait=600).defer(1)
            batch.wait()
        else:
            for _ in range(2):
                with limit("slow", Rate(1, per=600), wait=600):
                    pass


class Measure(Mandate):
    """Reports each number up to `total`."""

    total: int
    fail: bool = False

    def call(self) -> int:
        for number in range(1, self.total + 1):
            self.report(number, self.total, "counting")
        if self.fail:
            raise RuntimeError("miscounted")
        return self.total


class MeasureOnLoop(Measure):
    """The same on an event loop."""

    async def call(self) -> int:  # type: ignore[override]
        for number in range(1, self.total + 1):
            self.report(number, self.total, "counting")
        return self.total
