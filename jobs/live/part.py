"""The part itself: the state of a job in everyday words, and a bar."""

from typing import Any, NamedTuple

from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from jobs import runtime
from jobs.broker.times import time_of
from jobs.job import JobState, MandateJob
from jobs.record.states import ENDED
from jobs.waits.reports import Report

WORDS = {
    JobState.UNSENT: _("Waiting for its turn"),
    JobState.QUEUED: _("Waiting for its turn"),
    JobState.SCHEDULED: _("Waiting for its time"),
    JobState.WAITING: _("Waiting for other work"),
    JobState.BLOCKED: _("Waiting for other work"),
    JobState.RUNNING: _("Under way"),
    JobState.RETRYING: _("Will be tried again"),
    JobState.FINISHED: _("Done"),
    JobState.DEAD: _("Failed"),
    JobState.DISCARDED: _("Stopped"),
    JobState.CANCELLED: _("Stopped"),
}
FORGOTTEN = _("Ended")  # it has no record any more

JUST = 1.0  # seconds after which a page asks for the next part, or `progress.js` loads it anew

SHOWN = {JobState.RUNNING, JobState.RETRYING}  # states in which the last report says something


class Shown(NamedTuple):
    """What is to be seen of a job. `state` is None without a record; `is_over`: it will not change any more."""

    state: JobState | None
    report: Report | None
    is_over: bool


NOTHING = Shown(None, None, True)  # of a job without a record
UNKNOWN = Shown(JobState.QUEUED, None, False)  # while Redis does not answer


def look(job: MandateJob) -> Shown:
    """Read a job. One whose transaction has not committed yet is not over. Raises redis-py's errors."""
    is_known = job.is_written  # before the answer: another thread may write the job meanwhile
    state = job.state
    if state is None and not is_known:
        state = JobState.UNSENT
    return Shown(state, job.report if state in SHOWN else None, state is None or state in ENDED)


def is_settled(shown: Shown, job: MandateJob, *, refreshes: bool) -> bool:
    """
    Return whether no further look is needed. With `refreshes`, one is needed if the job has ended less than JUST ago:
    the view of the page may have read its rows before the end. The page is loaded anew after JUST, and so only once.

    Raises redis-py's errors.
    """
    if not shown.is_over or not refreshes:
        return shown.is_over
    ended: Any = job.connection.hget(job.key, "ended_at")
    at = time_of(ended)
    return at is None or not 0 <= runtime.now() - at.timestamp() < JUST


def render(shown: Shown, url: str = "") -> SafeString:
    """Return the part. `url`: where htmx gets the next part; empty if no part follows, or the server sends it."""
    state = shown.state
    context: dict[str, Any] = {"state": state.value if state else "", "report": shown.report}
    context |= {"word": WORDS[state] if state else FORGOTTEN, "url": url}
    context["is_busy"] = state is JobState.RUNNING
    return render_to_string("jobs/live/part.html", context)
