"""The deploys of the time that a chart shows: its marks, and the texts below it."""

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _

from jobs.broker.times import moment
from jobs.inspection import releases

NAMED = 16  # characters of a release beside its mark


@dataclass(frozen=True, slots=True)
class Mark:
    """A deploy in a chart. `at`: the index of its step; `text` shortens the name of the release."""

    at: int
    text: str
    release: str
    since: datetime


def marks(starts: Sequence[int]) -> list[Mark]:
    """Return the deploys since the first of these steps, by their starts. One round trip a server."""
    found = []
    for deploy in releases.deploys(starts[0]) if starts else ():
        name = deploy.release if len(deploy.release) <= NAMED else f"{deploy.release[:NAMED]}…"
        text = _("deploy %(release)s") % {"release": name}
        found.append(Mark(bisect(starts, deploy.since) - 1, text, deploy.release, moment(deploy.since)))
    return found
