"""Fetch an exercise's texts from the content service."""

import logging
import random
from datetime import timedelta

from jiki import content
from jiki.models import Exercise
from jobs import Mandate, Rate, RetryOn

logger = logging.getLogger(__name__)


class SyncExercise(Mandate):
    """Ask whether there are new texts, and if so take them all. Returns whether there were."""

    timeout = 60
    limits = [Rate(20, per=1, group="content")]  # what the service bears
    unique_for = timedelta(days=2)
    max_requeues = 100  # a day of an outage
    discard_on = [content.NoSuchExerciseError]
    retry_on = [
        RetryOn(content.RefusedError, attempts=1),
        RetryOn(content.UnusableAnswerError, wait=600, attempts=3),  # half a deployment over there, perhaps
    ]
    exercise: Exercise

    def call(self) -> bool:
        try:
            texts = content.fetch(self.exercise)
        except content.BusyError as error:
            logger.info("%s It is asked again in %g s.", error, error.seconds)
            self.requeue_job(error.seconds + random.uniform(0, 10))  # not all at the same moment again
        except content.TemporaryError as error:
            logger.info("%s", error)
            requeues = self.job.progress.requeues if self.job else 0
            self.requeue_job(random.uniform(5, 15) * 2 ** min(requeues, 6))
        if texts is not None:
            content.take(self.exercise, texts)
        return texts is not None
