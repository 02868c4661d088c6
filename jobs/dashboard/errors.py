"""The page of the errors: the same error of many jobs is one line, with its trend and what became of retried jobs."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from jobs.dashboard import charts
from jobs.dashboard.paging import part
from jobs.dashboard.wrappers import Screen
from jobs.inspection import error_counts
from jobs.inspection.error_counts import Became, ErrorGroup

READ = 100  # errors, the latest first
SIZE = 50  # errors a page


@dataclass(frozen=True, slots=True)
class Line:
    """An error in the table, with what became of the jobs that were retried last."""

    group: ErrorGroup
    became: Became

    @property
    def spark(self) -> SafeString:
        """The failed attempts of the last day."""
        total = sum(self.group.trend)
        text = ngettext("%(n)s failed attempt in the last day", "%(n)s failed attempts in the last day", total)
        hours = [sum(self.group.trend[at : at + 6]) for at in range(0, len(self.group.trend), 6)]
        return charts.trend(text % {"n": f"{total:,}"}, hours, "bad")

    @property
    def commands(self) -> list[str]:
        """The commands that failed so in the last day, the most frequent first; else the last one."""
        return [name for name, _count in self.group.commands.most_common(3)] or [self.group.command]

    @property
    def releases(self) -> str:
        """The first and the last release in which it was seen."""
        first, last = self.group.first_release, self.group.release
        return first if first == last else _("%(first)s to %(last)s") % {"first": first, "last": last}


def errors(request: HttpRequest) -> Screen:
    """The errors that were seen last; `command` names a command whose errors alone are shown."""
    command = request.GET.get("command", "").strip()
    shown = part(request, list(_lines(command)), SIZE)
    return "errors", {
        "title": _("Errors"),
        "lines": shown.object_list,
        "part": shown,
        "count": shown.paginator.count,
        "command": command,
    }


def _lines(command: str) -> Iterator[Line]:
    groups = error_counts.recent(READ)
    became = error_counts.became([group.id for group in groups if group.retried_at])
    for group in groups:
        if not command or command == group.command or command in group.commands:
            yield Line(group, became.get(group.id, Became()))
