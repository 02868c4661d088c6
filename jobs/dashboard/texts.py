"""What the dashboard says of states and changes, in the reader's language; each sentence stands whole."""

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as later
from django.utils.translation import ngettext

from jobs.inspection import Count

NAMES = {
    # states
    "queued": later("queued"),
    "running": later("running"),
    "scheduled": later("scheduled"),
    "retrying": later("retrying"),
    "waiting": later("waiting"),
    "blocked": later("blocked"),
    "finished": later("finished"),
    "dead": later("dead"),
    "discarded": later("discarded"),
    "cancelled": later("cancelled"),
    # events of a job, and ends of attempts
    "started": later("started"),
    "failed": later("failed"),
    "retried": later("to be retried"),
    "requeued": later("requeued"),
    "interrupted": later("interrupted"),
    "poisoned": later("poisoned"),
    "expired": later("expired"),
    "rescheduled": later("rescheduled"),
    "revived": later("set to run by a person"),
    "skipped": later("skipped"),
    "missed": later("missed"),
    "unfinished": later("unfinished"),
    "deleted": later("deleted"),
    # workers
    "busy": later("busy"),
    "idle": later("idle"),
    "suspended": later("suspended"),
    # times and orders
    "hour": later("last hour"),
    "day": later("last day"),
    "3days": later("last 72 hours"),
    "time": later("time in all"),
    "failures": later("failures"),
    "runs": later("runs"),
    "slowest": later("slowest"),
    "error": later("error"),
    "command": later("command"),
    # changes
    "retry": later("Retry"),
    "run_now": later("Run now"),
    "run_anyway": later("Run anyway"),
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
    "context": later("Context"),
}


def number(count: Count) -> int:
    """The number by which a sentence's form is chosen: "1+" are several."""
    return count.value + 2 * count.more


def counted(count: Count) -> str:
    """How many jobs there are."""
    if not number(count):
        return _("No jobs.")
    return ngettext("%(n)s job.", "%(n)s jobs.", number(count)) % {"n": count}


def found(count: Count) -> str:
    """How many jobs a search has found."""
    return _("%(n)s found.") % {"n": count} if count.value else _("None found.")


def changed_one(name: str, job_id: str) -> str:
    """What was done to a job."""
    told = {
        "retry": _("Job %(id)s was retried."),
        "run_now": _("Job %(id)s was set running."),
        "cancel": _("Job %(id)s was cancelled."),
        "delete": _("Job %(id)s was deleted."),
    }
    return told[name] % {"id": job_id}


def ask_one(name: str, job_id: str) -> str:
    """Whether that is wanted."""
    told = {"cancel": _("Cancel job %(id)s?"), "delete": _("Delete job %(id)s?")}
    return told[name] % {"id": job_id}


def changed_many(name: str, changed: int, refused: int) -> str:
    """What was done to many."""
    none = {
        "retry": _("No job was retried."),
        "run_now": _("No job was set running."),
        "cancel": _("No job was cancelled."),
        "delete": _("No job was deleted."),
        "clear": _("No job was deleted."),
    }
    some = {
        "retry": ngettext("%(n)s job was retried.", "%(n)s jobs were retried.", changed),
        "run_now": ngettext("%(n)s job was set running.", "%(n)s jobs were set running.", changed),
        "cancel": ngettext("%(n)s job was cancelled.", "%(n)s jobs were cancelled.", changed),
        "delete": ngettext("%(n)s job was deleted.", "%(n)s jobs were deleted.", changed),
        "clear": ngettext("%(n)s job was deleted.", "%(n)s jobs were deleted.", changed),
    }
    told = (some if changed else none)[name] % {"n": f"{changed:,}"}
    if not refused:
        return told
    left = ngettext(
        "%(n)s was left alone: it has gone, or is in another state by now.",
        "%(n)s were left alone: they have gone, or are in another state by now.",
        refused,
    )
    return f"{told} {left % {'n': f'{refused:,}'}}"


def changing_many(name: str, count: Count) -> str:
    """What a job does to many."""
    told = {
        "retry": ngettext("%(n)s job is being retried.", "%(n)s jobs are being retried.", number(count)),
        "run_now": ngettext("%(n)s job is being set running.", "%(n)s jobs are being set running.", number(count)),
        "cancel": ngettext("%(n)s job is being cancelled.", "%(n)s jobs are being cancelled.", number(count)),
        "delete": ngettext("%(n)s job is being deleted.", "%(n)s jobs are being deleted.", number(count)),
        "clear": ngettext("%(n)s job is being deleted.", "%(n)s jobs are being deleted.", number(count)),
    }
    return told[name] % {"n": count}


def ask_many(name: str, count: Count) -> str:
    """Whether that is wanted."""
    told = {
        "retry": ngettext("Retry %(n)s job?", "Retry %(n)s jobs?", number(count)),
        "run_now": ngettext("Run %(n)s job now?", "Run %(n)s jobs now?", number(count)),
        "cancel": ngettext("Cancel %(n)s job?", "Cancel %(n)s jobs?", number(count)),
        "delete": ngettext("Delete %(n)s job?", "Delete %(n)s jobs?", number(count)),
    }
    return told[name] % {"n": count}
