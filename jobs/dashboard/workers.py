"""
The pages of the worker processes. The table rows are made here because a template's loop over a thousand workers
takes ten times as long.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import groupby
from urllib.parse import quote

from django.http import Http404, HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from jobs.dashboard.format import NONE, apart, word
from jobs.dashboard.paging import has, part
from jobs.dashboard.permissions import may
from jobs.dashboard.wrappers import Screen
from jobs.inspection import workers
from jobs.inspection.workers import Worker

SIZE = 50  # workers a page
NAMED = 3  # jobs shown for each worker
QUEUES_NAMED = 4  # queues shown for each worker

_ROW = (
    '<tr id="row-{name}">{box}<th scope="row"><a class="jobs-name" href="{path}/" title="{name}">{name}</a><br>'
    '<small>{process}</small></th><td><span class="jobs-pill jobs-state-{raw}">{state}</span></td>'
    '<td class="jobs-number" data-label="{threads_}">{threads}</td><td data-label="{queues_}">{queues}</td>'
    '<td data-label="{running_}">{running}</td><td class="jobs-number" data-label="{counts_}">{counts}</td>'
    '<td class="jobs-number" data-label="{memory_}">{memory}</td>'
    '<td class="jobs-number" data-label="{load_}">{load}</td>'
    '<td data-label="{version_}">{version}</td>'
    '<td data-label="{seen_}"><span class="jobs-nowrap">{seen}</span></td></tr>'
)
_GROUP = '<tr class="jobs-group"><th scope="rowgroup" colspan="{}">{} <small>{} {}</small></th></tr>'
_BOX = '<td class="jobs-box"><input type="checkbox" name="worker" value="{}" aria-label="{}"></td>'
_JOB = '<span class="jobs-nowrap"><a href="../job/{}/">{}</a> <small>{}</small></span><br>'


def worker_list(request: HttpRequest) -> Screen:
    """The processes by host and release, a page of them, with the jobs that each runs and their start."""
    listed, text = workers.listed(jobs=NAMED), request.GET.get("text", "").strip()
    found = [each for each in listed if has(text, (each.name, each.hostname, each.code_version, *each.queues))]
    shown = part(request, sorted(found, key=lambda each: (*_group(each), each.name)), SIZE)
    return "workers", {
        "title": _("Workers"),
        "workers": shown.object_list,
        "part": shown,
        "text": text,
        "rows": list(in_groups(list(shown.object_list), found, selectable=may(request, "workers"))),
        "count": len(listed),
        "threads": sum(worker.threads for worker in listed),
        "busy": sum(worker.busy for worker in listed),
        "memory_mb": sum(worker.memory_mb for worker in listed),
    }


def worker(request: HttpRequest, name: str) -> Screen:
    """One process: all jobs that it runs, and its stacks if they were requested. Http404 if it is unknown."""
    answer = workers.get(name)
    if answer is None:
        raise Http404(_("There is no worker %(name)s.") % {"name": name})
    worker, stacks = answer
    return "worker", {"title": _("Worker %(name)s") % {"name": name}, "worker": worker, "stacks": stacks}


class _Texts:
    """The texts of one page's rows, each translated once: most rows have the same ones."""

    def __init__(self) -> None:
        self._now = datetime.now(UTC)
        self._apart, self.state, self.of = lru_cache(apart), lru_cache(word), lru_cache(self._of)
        # the names of the columns, which a row that is a card shows itself
        self.columns = {"threads_": _("Threads busy"), "queues_": _("Queues"), "running_": _("Running")}
        self.columns |= {"counts_": _("Finished, failed"), "memory_": _("Memory"), "load_": _("Load")}
        self.columns |= {"version_": _("Version"), "seen_": _("Seen")}

    def away(self, at: datetime | None) -> str:
        """Return the distance from now, in whole seconds."""
        return NONE if at is None else self._apart(round((at - self._now).total_seconds()))

    def _of(self, number: int) -> str:
        return _("of %(n)s") % {"n": number}


def _group(worker: Worker) -> tuple[str, str]:
    return worker.hostname, worker.code_version


def in_groups(shown: Sequence[Worker], found: Sequence[Worker], *, selectable: bool) -> Iterator[SafeString]:
    """Yield the rows of a page, before each host and release a row that sums up all that were found of it."""
    summed: dict[tuple[str, str], list[int]] = {}
    for each in found:
        counted = summed.setdefault(_group(each), [0, 0, 0])
        for at, number in enumerate((1, each.busy, each.threads)):
            counted[at] += number
    for group, members in groupby(shown, key=_group):
        if len(summed) > 1:
            number, busy, threads = summed[group]
            text = ngettext(
                "%(n)s process, %(b)s of %(t)s threads busy", "%(n)s processes, %(b)s of %(t)s threads busy", number
            )
            told = text % {"n": f"{number:,}", "b": f"{busy:,}", "t": f"{threads:,}"}
            release = _("release %(release)s") % {"release": group[1]} if group[1] else ""
            yield format_html(_GROUP, 10 + selectable, group[0], release, told)
        yield from of_workers(members, selectable=selectable)


def of_workers(listed: Iterable[Worker], *, selectable: bool) -> Iterator[SafeString]:
    """Yield a table row for each worker, with a checkbox if `selectable`."""
    texts = _Texts()
    for worker in listed:
        yield format_html(
            _ROW,
            **texts.columns,
            name=worker.name,
            raw=worker.state,
            path=quote(worker.name, safe=""),
            box=format_html(_BOX, worker.name, worker.name) if selectable else "",
            process=f"{worker.hostname} {worker.pid}",
            state=texts.state(worker.state),
            threads=f"{worker.busy} / {worker.threads}{_tasks(worker)}",
            queues=_queues(worker),
            running=_running(worker, texts),
            counts=f"{worker.finished:,}, {worker.failed:,}",
            memory=f"{worker.memory_mb:.0f} MB",
            load=f"{worker.load:.2f}",
            version=worker.version,
            seen=texts.away(worker.seen),
        )


def _tasks(worker: Worker) -> str:
    return f" + {worker.tasks_running:,} / {worker.tasks:,}" if worker.tasks else ""


def _queues(worker: Worker) -> SafeString | str:
    """Return the names of some of its queues, and in the title all of them."""
    more = len(worker.queues) - QUEUES_NAMED
    if more <= 0:
        return ", ".join(worker.queues)
    text = _("%(names)s and %(n)s more") % {"names": ", ".join(worker.queues[:QUEUES_NAMED]), "n": more}
    return format_html('<span title="{}">{}</span>', ", ".join(worker.queues), text)


def _running(worker: Worker, texts: _Texts) -> SafeString | str:
    if not worker.running:
        return ""
    shown = [(quote(job.job_id, safe=""), job.job_id[:12], texts.away(job.started_at)) for job in worker.running]
    jobs = format_html_join("", _JOB, shown)
    number = worker.busy + worker.tasks_running
    if number <= len(worker.running):
        return jobs
    return format_html("{}<small>{}</small>", jobs, texts.of(number))
