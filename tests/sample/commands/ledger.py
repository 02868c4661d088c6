"""The load of the chaos suite: commands that enter each of their runs in the books."""

import time

from jobs import Mandate
from tests.sample.models import Run


class Record(Mandate):
    retries = 0
    result_ttl = 24 * 3_600  # the books are read at the end
    number: int
    seconds: float = 0.0
    fails: bool = False

    def call(self) -> None:
        run = Run.objects.create(number=self.number)
        time.sleep(self.seconds)
        Run.objects.filter(pk=run.pk).update(ended=True)
        if self.fails:
            raise RuntimeError("as planned")
