"""The dashboard's texts on states and changes, translated. Each sentence is one message."""

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as later
from django.utils.translation import ngettext
from redis.exceptions import TimeoutError

from jobs.inspection import Count
from jobs.job import JobState

NAMES = {
    # states
    "queued": later("queued"),
    "running": later("running"),
    "scheduled": later("scheduled"),
    "retrying": later("retrying"),
    "waiting": later("waiting"),
    "blocked": later("blocked"),
    "limited": later("limited"),
    "finished": later("finished"),
    "dead": later("dead"),
    "discarded": later("discarded"),
    "cancelled": later("cancelled"),
    "unsent": later("unsent"),
    # events of a job, and ends of attempts
    "started": later("started"),
    "failed": later("failed"),
    "retried": later("to be retried"),
    "requeued": later("requeued"),
    "resumed": later("left off, to go on"),
    "rewound": later("steps to be done anew"),
    "anew": later("Begin anew"),
    "interrupted": later("interrupted"),
    "poisoned": later("poisoned"),
    "expired": later("expired"),
    "rescheduled": later("rescheduled"),
    "collapsed": later("collapsed"),
    "committed": later("committed in the database"),
    "revived": later("set to run by hand"),
    "skipped": later("skipped"),
    "missed": later("missed"),
    "unfinished": later("unfinished"),
    "deleted": later("deleted"),
    # batches, their members and events
    "open": later("open: jobs are being added"),
    "successful": later("successful"),
    "unsuccessful": later("unsuccessful"),
    "pending": later("pending"),
    "complete": later("complete"),
    "success": later("success"),
    # workers
    "busy": later("busy"),
    "idle": later("idle"),
    "suspended": later("suspended"),
    # times and orders
    "hour": later("last hour"),
    "day": later("last day"),
    "3days": later("last 72 hours"),
    "2weeks": later("last two weeks"),
    "time": later("total time"),
    "failures": later("failures"),
    "runs": later("runs"),
    "slowest": later("slowest"),
    "error": later("error"),
    "command": later("command"),
    "attempts": later("attempts"),
    "runtime": later("run time"),
    "wait": later("wait"),
    "outcome": later("by outcome"),
    "by_queue": later("by queue"),
    "by_command": later("by command"),
    "paused": later("paused"),
    # changes
    "retry": later("Retry"),
    "run_now": later("Run now"),
    "run_anyway": later("Run anyway"),
    "force": later("Run now, past its limits"),
    "cancel": later("Cancel"),
    "interrupt": later("Interrupt"),
    "delete": later("Delete"),
    "clear": later("Clear the queue"),
    "quiet": later("Quiet"),
    "stop": later("Stop"),
    "stacks": later("Show stacks"),
    "profile": later("Profile"),
    # fields of a job's record
    "created_at": later("Created"),
    "enqueued_at": later("Enqueued"),
    "interrupted_by": later("Interrupted by"),
    "expires_at": later("Expires"),
    "due": later("Due"),
    "schedule": later("Recurring entry"),
    "unique": later("Lock"),
    "latest": later("Put off until, at most"),
    "context": later("Context"),
    "batch": later("batch"),
    "callback": later("callback of"),
    "edited_from": later("Edited from"),
}


def outage(error: Exception) -> str:
    """Return the sentence on an error: redis-py's own on a server that hangs says nothing to a reader."""
    if isinstance(error, TimeoutError):
        return _("Redis does not answer: it holds the connection open, but was silent for too long. (%(error)s)") % {
            "error": error
        }
    return str(error)


def verb_for(name: str, state: str | None) -> str:
    """Return the name under which a page speaks of a change: to cancel a running job is to interrupt it."""
    return "interrupt" if name == "cancel" and state == JobState.RUNNING else name


def button(name: str, state: str) -> str:
    """Return the text of the button of a change, for one job in that state."""
    return str(NAMES[_button(name, state)])


def on_selected(name: str, state: str) -> str:
    """Return the text of the button of a change of the selected jobs of a list."""
    buttons = {
        "retry": _("Retry selected"),
        "run_now": _("Run selected now"),
        "run_anyway": _("Run selected anyway"),
        "cancel": _("Cancel selected"),
        "interrupt": _("Interrupt selected"),
        "delete": _("Delete selected"),
    }
    return buttons[_button(name, state)]


def on_all(name: str, state: str, count: Count | None) -> str:
    """Return the text of the button of a change of all jobs of a list; `count`: None for all that match a search."""
    matching = {
        "retry": _("Retry all that match"),
        "run_now": _("Run all that match now"),
        "run_anyway": _("Run all that match anyway"),
        "cancel": _("Cancel all that match"),
        "interrupt": _("Interrupt all that match"),
        "delete": _("Delete all that match"),
    }
    counted = {
        "retry": _("Retry all %(n)s"),
        "run_now": _("Run all %(n)s now"),
        "run_anyway": _("Run all %(n)s anyway"),
        "cancel": _("Cancel all %(n)s"),
        "interrupt": _("Interrupt all %(n)s"),
        "delete": _("Delete all %(n)s"),
    }
    does = _button(name, state)
    return matching[does] if count is None else counted[does] % {"n": count}


def _button(name: str, state: str) -> str:
    """As `verb_for`; to run a job that waits for its prerequisites is to run it anyway."""
    if name == "run_now" and state in (JobState.WAITING, JobState.BLOCKED):
        return "run_anyway"
    return verb_for(name, state)


def consequence(name: str) -> str:
    """Return the sentence on what follows a change that cannot be undone; "" for any other."""
    sentences = {
        "delete": _("Deleted jobs and their results cannot be restored."),
        "cancel": _("Cancelled jobs do not run. For a day they can be retried."),
        "interrupt": _(
            "The code is stopped at its next safe line. The job counts as cancelled; for a day it can be retried."
        ),
    }
    return sentences.get(name, "")


def number(count: Count) -> int:
    """Return the number that selects singular or plural: "1+" is plural."""
    return count.value + 2 * count.more


def counted(count: Count) -> str:
    """Return the sentence on the number of jobs in a list."""
    if not number(count):
        return _("No jobs.")
    return ngettext("%(n)s job.", "%(n)s jobs.", number(count)) % {"n": count}


def found(count: Count) -> str:
    """Return the sentence on the number of jobs that a search found."""
    return _("%(n)s found.") % {"n": count} if count.value else _("None found.")


def changed_one(name: str, job_id: str) -> str:
    """Return the sentence on the change of one job."""
    sentences = {
        "retry": _("Job %(id)s was retried."),
        "run_now": _("Job %(id)s was set to run now."),
        "cancel": _("Job %(id)s was cancelled."),
        "interrupt": _("Job %(id)s was interrupted."),
        "delete": _("Job %(id)s was deleted."),
    }
    return sentences[name] % {"id": job_id}


def ask_one(name: str, job_id: str) -> str:
    """Return the confirmation question for one job."""
    questions = {
        "cancel": _("Cancel job %(id)s?"),
        "interrupt": _("Interrupt job %(id)s?"),
        "delete": _("Delete job %(id)s?"),
    }
    return questions[name] % {"id": job_id}


def changed_many(name: str, changed: int, refused: int) -> str:
    """Return the sentences on a bulk change: the number of jobs changed, and the number refused."""
    none = {
        "retry": _("No job was retried."),
        "run_now": _("No job was set to run now."),
        "cancel": _("No job was cancelled."),
        "interrupt": _("No job was interrupted."),
        "delete": _("No job was deleted."),
        "clear": _("No job was deleted."),
    }
    some = {
        "retry": ngettext("%(n)s job was retried.", "%(n)s jobs were retried.", changed),
        "run_now": ngettext("%(n)s job was set to run now.", "%(n)s jobs were set to run now.", changed),
        "cancel": ngettext("%(n)s job was cancelled.", "%(n)s jobs were cancelled.", changed),
        "interrupt": ngettext("%(n)s job was interrupted.", "%(n)s jobs were interrupted.", changed),
        "delete": ngettext("%(n)s job was deleted.", "%(n)s jobs were deleted.", changed),
        "clear": ngettext("%(n)s job was deleted.", "%(n)s jobs were deleted.", changed),
    }
    text = (some if changed else none).get(name, "%(n)s") % {"n": f"{changed:,}"}  # or a later release's change
    if not refused:
        return text
    skipped = ngettext(
        "%(n)s was skipped: it no longer exists, or its state no longer allows the change.",
        "%(n)s were skipped: they no longer exist, or their state no longer allows the change.",
        refused,
    )
    return f"{text} {skipped % {'n': f'{refused:,}'}}"


def changing_many(name: str, count: Count) -> str:
    """Return the sentence on a bulk change that a job has begun."""
    sentences = {
        "retry": ngettext("%(n)s job is being retried.", "%(n)s jobs are being retried.", number(count)),
        "run_now": ngettext(
            "%(n)s job is being set to run now.", "%(n)s jobs are being set to run now.", number(count)
        ),
        "cancel": ngettext("%(n)s job is being cancelled.", "%(n)s jobs are being cancelled.", number(count)),
        "interrupt": ngettext("%(n)s job is being interrupted.", "%(n)s jobs are being interrupted.", number(count)),
        "delete": ngettext("%(n)s job is being deleted.", "%(n)s jobs are being deleted.", number(count)),
        "clear": ngettext("%(n)s job is being deleted.", "%(n)s jobs are being deleted.", number(count)),
    }
    return sentences[name] % {"n": count}


def ask_many(name: str, count: Count) -> str:
    """Return the confirmation question for a bulk change."""
    questions = {
        "retry": ngettext("Retry %(n)s job?", "Retry %(n)s jobs?", number(count)),
        "run_now": ngettext("Run %(n)s job now?", "Run %(n)s jobs now?", number(count)),
        "cancel": ngettext("Cancel %(n)s job?", "Cancel %(n)s jobs?", number(count)),
        "interrupt": ngettext("Interrupt %(n)s job?", "Interrupt %(n)s jobs?", number(count)),
        "delete": ngettext("Delete %(n)s job?", "Delete %(n)s jobs?", number(count)),
    }
    return questions[name] % {"n": _("at least %(n)s") % {"n": f"{count.value:,}"} if count.more else count}
