"""The search over all states: its page, and what every list shows of a search."""

from collections import Counter
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _

from jobs.dashboard.navigation import address
from jobs.dashboard.wrappers import Done, Screen
from jobs.inspection import everywhere, find, kept_searches, unsent
from jobs.inspection.rows import Row
from jobs.inspection.search import Search, SearchError

LOOKED_AT = 1_000  # jobs that the page of all states examines
LOOKED_AT_FOR_TABS = 700  # and a list of one state, for the numbers of the other states
SHOWN = 50  # rows
REFINEMENTS = 6  # suggestions of each kind to narrow a search down


def search(request: HttpRequest) -> Screen | HttpResponse:
    """
    The jobs in any state that match `q`. A search for one state leads to its list, and the id of a job to its page.
    SearchError for a search that is not understood.
    """
    given = request.GET.get("q", "").strip()
    if given and find(given) is not None:
        return HttpResponseRedirect(address(request, "jobs_job", given))
    wanted = Search.parse(given)
    if len(wanted.states) == 1:
        rest = wanted.without(*(term for term in wanted.terms if term.name == "state"))
        return HttpResponseRedirect(f"{address(request, 'jobs_list', wanted.states[0].value)}?{_query(rest)}")
    found = everywhere.find_all(wanted, LOOKED_AT)
    return "search", {
        "title": _("Search"),
        **context(request, wanted, "", found.counts),
        "rows": found.rows[:SHOWN],
        "matched": len(found.rows),
        "more": any(count.more for count in found.counts.values()),
        "looked_at": found.looked_at,
        "total": found.total,
        "refinements": list(refinements(wanted, found.rows)),
    }


def context(request: HttpRequest, search: Search, state: str, counts: Any = None) -> dict[str, Any]:
    """Return what a page shows of its search: the terms as chips, the number of jobs in each state, what is kept."""
    if counts is None:
        counts = everywhere.counts(search, LOOKED_AT_FOR_TABS)
    here = address(request, "jobs_list", state) if state else address(request, "jobs_search")
    rest = search.without(*(term for term in search.terms if term.name == "state"))
    return {
        "chips": [(str(term), f"{here}?{_query(search.without(term))}") for term in search.terms],
        "tabs": [
            (each.value, counts.get(each), f"{address(request, 'jobs_list', each.value)}?{_query(rest)}")
            for each in unsent.states()
        ],
        "everywhere": f"{address(request, 'jobs_search')}?{_query(rest)}",
        "search": str(search),
        "kept": [
            (name, f"{address(request, 'jobs_search')}?{urlencode({'q': kept})}")
            for name, kept in kept_searches.of(_user(request))
        ],
    }


def refinements(search: Search, rows: Sequence[Row]) -> Any:
    """Yield terms that narrow the search down, each with its number among these rows, and the search with it."""
    for name in ("command", "queue", "error"):
        if search.value(name):
            continue
        counted = Counter(getattr(row, name) for row in rows if getattr(row, name))
        if len(counted) > 1:
            for value, count in counted.most_common(REFINEMENTS):
                try:
                    narrower = Search.parse(str(search.with_term(name, value)))
                except SearchError:  # such as a queue that the project no longer has
                    continue
                yield f"{name}:{value}", count, _query(narrower)


def keep(request: HttpRequest) -> Done:
    """Keep a search under a name."""
    name = request.POST.get("name", "")
    kept_searches.keep(_user(request), name, request.POST.get("q", ""))
    return Done(_("The search was saved as %(name)s.") % {"name": name}, is_noted=False)


def forget(request: HttpRequest) -> Done:
    """Forget a search that was kept."""
    name = request.POST.get("name", "")
    kept_searches.forget(_user(request), name)
    return Done(_("The saved search %(name)s was deleted.") % {"name": name}, is_noted=False)


def _query(search: Search) -> str:
    return urlencode({"q": str(search)}) if search.terms else ""


def _user(request: HttpRequest) -> str:
    return str(request.user.pk)
