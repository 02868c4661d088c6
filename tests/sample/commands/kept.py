"""A command that takes anything and keeps it, for tests in whose process it runs."""

from jobs import Mandate

KEPT: list[object] = []


class Keep(Mandate):
    value: object
    other: object = None

    def call(self) -> object:
        KEPT.append(self.value)
        return self.value


class KeepWithOptions(Mandate):
    queue = "low"
    timeout = 7.5
    retries = 3
    result_ttl = 60
    expires_in = 30 * 365 * 24 * 3_600  # seconds: samples of it are to run in years, too
    unique_for = 3_600
    keep_log = True
    value: object

    def call(self) -> object:
        KEPT.append(self.value)
        return [self.context.get("request_id"), self.job.id if self.job else None]


class KeepSecondTime(Mandate):
    """Fails or asks for a requeue the first time."""

    how: str

    def call(self) -> str:
        assert self.job is not None
        if not self.job.progress.attempts:
            if self.how == "requeue":
                self.requeue_job(60)
            raise RuntimeError("not yet")
        KEPT.append(self.how)
        return self.how
