"""
Commands that a person has paused. A plain job says nothing about limits, so the claiming script cannot know of a pause:
the thread that takes a job of such a command writes a limit that admits nothing into the job's record, and the job goes
to that limit's lane.
"""

from collections.abc import Mapping

from jobs import runtime
from jobs.broker.times import as_text, number_of
from jobs.limits.policy import MOST

KIND = ":pause:"  # how the id of such a limit ends; `parts/admit.lua` knows it

commands: frozenset[str] = frozenset()  # those that this process knows of: a worker's parent follows the server


def id_of(command: str) -> str:
    """Return the id of the limit of a paused command."""
    return command + KIND


def line_of(command: str) -> str:
    """Return the line of that limit in a job's field `limits`."""
    return f"c\t{id_of(command)}\t\t{MOST}\twait"


def current(until: Mapping[bytes, bytes]) -> frozenset[str]:
    """Return the commands that are paused now, of the hash `jobs:paused:commands`: names, and until when."""
    return frozenset(as_text(name) for name, at in until.items() if number_of(as_text(at)) > runtime.now())
