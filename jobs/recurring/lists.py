"""
Which release's list of recurring entries counts while several releases run.

Each process that schedules publishes its list. The stored entries follow the list that appeared last, of those of which
a process is alive; other processes leave them alone.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

from jobs import conf
from jobs.broker import keys
from jobs.broker.connections import Script, get_connection
from jobs.broker.times import SILENCE, UNSEEN, as_text
from jobs.errors import ScheduleError
from jobs.recurring import store
from jobs.recurring.entry import Entry, listed
from jobs.recurring.serialization import fingerprint

EVERY = 5.0  # seconds between two publications of a process's list

_FOLLOW = Script("follow.lua")


class ProjectList:
    """
    The project's list in one process, for the server of a queue. `run(script, keys, *arguments)` runs a script there.
    """

    def __init__(self, queue: str, run: Callable[..., Any]) -> None:
        self._queue, self._run = queue, run
        self._process = os.urandom(8).hex()
        self._entries: list[Entry] | None = []
        self._id = self._newer = ""
        self._next = 0.0  # monotonic seconds

    def follow(self) -> list[str]:
        """
        Make the stored entries match the list, if it is the newest and has just become so. Every 5 seconds; between
        them it does nothing. Returns problems to log, each once. Raises redis-py's errors.
        """
        if self._entries is None or time.monotonic() < self._next:
            return []
        is_first = not self._id
        if is_first:
            try:
                self._entries = listed()
            except ScheduleError as error:
                self._entries = None
                return [str(error)]
            self._id = list_id(self._entries)
        newest, is_written = self._publish()
        self._next = time.monotonic() + EVERY
        if newest != self._id:
            return self._left_alone(newest)
        self._newer = ""
        if is_written and not is_first:
            return []
        return store.sync(self._entries, only=get_connection(self._queue), list_id=self._id)

    def end(self) -> None:
        """Publish the list no longer: this process ends."""
        if self._id:
            get_connection(self._queue).zrem(keys.processes_of(self._id), self._process)

    def _publish(self) -> tuple[str, bool]:
        names = [keys.LISTS, keys.FOLLOWED, keys.processes_of(self._id)]
        newest, is_written = self._run(_FOLLOW, names, self._id, self._process, UNSEEN, SILENCE)
        return as_text(newest), bool(is_written)

    def _left_alone(self, newest: str) -> list[str]:
        if newest == self._newer or _digest(newest) == _digest(self._id):
            return []
        self._newer = newest
        return [
            f"The recurring entries follow the list of a newer release, {newest}, of which a process runs. "
            f'JOBS["SCHEDULE"] of this process, {self._id}, changes nothing until those processes have ended.'
        ]


def differences() -> dict[str, list[str]]:
    """
    Return the names of the entries in which the project's list and Redis differ, by how: missing, changed, unlisted.
    Entries that cannot work are left out. ScheduleError if there is no list.
    """
    stored = {each.name: each for each in store.entries() if each.from_file}
    wanted = {entry.name: entry for entry in listed() if not list(entry.problems())}
    changed = [name for name in wanted.keys() & stored.keys() if not store.is_same(stored[name], wanted[name])]
    found = {"missing": wanted.keys() - stored.keys(), "changed": changed, "unlisted": stored.keys() - wanted.keys()}
    return {how: sorted(names) for how, names in found.items() if names}


def list_id(entries: Iterable[Entry]) -> str:
    """Return JOBS["VERSION"], if it is set, and a digest of the entries: the same in all processes of a release."""
    digest = hashlib.sha256(b"\n".join(fingerprint(entry) for entry in entries)).hexdigest()[:12]
    return f"{conf.get('VERSION') or 'unnamed'}:{digest}"


def _digest(list_id: str) -> str:
    return list_id.rpartition(":")[2]
