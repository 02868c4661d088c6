"""What the command of a job did in the last hour, for the page of the job."""

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from jobs import runtime
from jobs.dashboard import charts
from jobs.dashboard.figures import Figure, usually
from jobs.dashboard.format import percent, span
from jobs.inspection import attempt_counts, digests
from jobs.inspection.attempt_counts import together


def of_command(command: str) -> list[Figure]:
    """Return the failures and run times of a command; none if it made no attempt. Two round trips a server."""
    minutes = [together(of_queue.values()) for _start, of_queue in attempt_counts.of_command(command)]
    hour = together(minutes)
    if not hour.attempts:
        return []
    hours = digests.usual_hours(runtime.now())
    usual = digests.usual(digest for _hour, digest in digests.series("command", command, hours))
    attempts = ngettext("%(n)s attempt", "%(n)s attempts", hour.attempts) % {"n": f"{hour.attempts:,}"}
    tone = "bad" if hour.failed else ""
    return [
        Figure(
            _("Failing"),
            percent(hour.failed / hour.attempts),
            attempts,
            tone=tone,
            spark=charts.trend(_("Failed attempts by minute, last hour"), [each.failed for each in minutes], tone),
            usual=usually(usual, percent(usual.failed)),
        ),
        Figure(
            _("Run time"),
            span(hour.quantile(0.95)),
            _("95th percentile"),
            spark=charts.trend(
                _("95th percentile of the run time by minute, last hour"), [each.quantile(0.95) for each in minutes]
            ),
            usual=usually(usual, span(usual.p95)),
        ),
    ]
