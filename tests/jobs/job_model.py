"""What the lives of jobs should be, in plain Python: the model that `test_states.py` holds the real thing against."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from jobs import MandateJob
from tests.sample.commands.acts import Act, ActForgotten, ActOnce, ActOnNote, ActOnNoteUnguarded, ActSoon

AHEAD = {"queued", "scheduled", "retrying", "waiting"}
UNFINISHED = AHEAD | {"running"}
BADLY_ENDED = {"dead", "discarded", "cancelled"}
GONE = {"deleted", "trimmed"}  # no record, but it is known that they did not finish
UNKNOWN = {"unwritten", "duplicate"}
NO_RECORD = GONE | {"forgotten"} | UNKNOWN

PLACES = {
    "queued": "queue",
    "running": "wip",
    "scheduled": "scheduled",
    "retrying": "scheduled",
    "waiting": "deferred",
    "finished": "finished",
    "dead": "failed",
    "discarded": "canceled",
    "cancelled": "canceled",
}


@dataclass(eq=False)
class Life:
    """One job. `state` as `job.state`, and what has no record by why it has none; a blocked job is waiting here."""

    job: MandateJob
    command: type[Act]
    queue: str
    prerequisites: list["Life"]
    any_end: bool  # prereq_failure="run"
    by_id: bool  # whether its prerequisites were given so
    has_wait: bool
    habit: str  # how its calls end, unless something else comes up
    write: Callable[[], object]

    id: str = ""  # its own, when its handle has come to stand for another job, too
    state: str = "unwritten"
    stands_for: "Life | None" = None  # when it was its duplicate
    lacks: set["Life"] = field(default_factory=set)
    lacked: set["Life"] = field(default_factory=set)  # when it was cancelled
    unknown: set["Life"] = field(default_factory=set)  # taken for finished, because they were not written yet
    held: Any = None  # by which worker, as which claim
    failures: int = 0
    flakes: int = 0
    requeues: int = 0
    interruptions: int = 0
    survived: int = 0  # of those, when an attempt ended by itself
    looks: int = 0  # for a record that is missing: 1 a moment ago, 2 for longer than it may take
    may_expire: bool = False
    is_begun: bool = False
    is_expired: bool = False
    has_finished: bool = False  # ever, as the next two
    has_ended_badly: bool = False
    was_told_to_run: bool = False
    is_member: bool = False  # of a batch
    was_retried_by_rq: bool = False  # which tells no batch

    def __post_init__(self) -> None:
        self.id = self.job.id
        self.may_expire = self.command is ActSoon

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))

    def __repr__(self) -> str:
        return f"<{self.id}: {self.command.__name__}, {self.state}>"

    @property
    def is_unique(self) -> bool:
        return self.command is ActOnce

    @property
    def is_unfinished(self) -> bool:
        return self.state in UNFINISHED

    @property
    def is_blocked(self) -> bool:
        return self.state == "waiting" and any(each.state in BADLY_ENDED | NO_RECORD for each in self.lacks)

    def as_member(self) -> set[str]:
        """Its states as a member of a batch. What has finished stays finished; a trimmed job was dead."""
        if self.is_unfinished:
            return {"pending", "dead"} if self.was_retried_by_rq else {"pending"}
        if self.state in ("deleted", "forgotten") and self.has_finished:
            return {"finished"}
        return {"dead"} if self.state == "trimmed" else {self.state}

    def is_done_for(self, other: "Life") -> bool:
        """Whether this prerequisite need not be waited for by one that is written now."""
        if self in other.unknown:
            return True
        if self.state in UNKNOWN:
            return False
        if other.any_end:
            return not self.is_unfinished
        return self.state in {"finished", "forgotten"}

    def may_start(self) -> bool:
        """Whether its call may be made, by what has ever happened, and whatever this model thinks of its state."""
        return self.was_told_to_run or all(
            each.has_finished or (self.any_end and each.has_ended_badly) or each in self.unknown
            for each in self.prerequisites
        )

    # --- attempts --------------------------------------------------------------------------------

    def attempt(self, end: str) -> tuple[str, bool]:
        """An attempt is made, whose call would end so. Returns what it is counted as, and whether call is reached."""
        if self.lacks:
            self.state = "waiting"
            return "", False
        if self.is_expired and not self.is_begun:
            return self._discard(), False
        if issubclass(self.command, ActOnNote):
            if self.looks < 2:
                self.looks, self.is_begun, self.state = 1, True, "scheduled"
                return "", False
            return self._fail() if self.command is ActOnNoteUnguarded else self._discard(), False
        ends = {
            "finish": self._finish,
            "fail": self._fail,
            "time out": self._fail,
            "flake": self._flake,
            "discard": self._discard,
            "stop": self._die,
            "requeue": lambda: self._requeue("scheduled"),
            "requeue at once": lambda: self._requeue("queued"),
        }
        return ends[end](), True

    def _finish(self) -> str:
        self.state, self.has_finished = "forgotten" if self.command is ActForgotten else "finished", True
        return "finished"

    def _fail(self) -> str:
        self.failures += 1
        return self._die() if self.failures > self.command.retries else self._again("retrying", "retried")

    def _flake(self) -> str:
        self.flakes += 1
        return self._die() if self.flakes >= 2 else self._again("queued", "retried")  # its rule waits for nothing

    def _requeue(self, state: str) -> str:
        self.requeues += 1
        return self._die() if self.requeues > 2 else self._again(state, "requeued")

    def _again(self, state: str, counted: str) -> str:
        self.state, self.looks, self.is_begun = state, 0, True
        self.survived = self.interruptions
        return counted

    def _discard(self) -> str:
        self.state, self.has_ended_badly = "discarded", True
        return "discarded"

    def _die(self) -> str:
        self._begin_afresh()
        self.state, self.has_ended_badly = "dead", True
        return "dead"

    def _begin_afresh(self) -> None:
        self.failures = self.flakes = self.requeues = self.interruptions = self.survived = self.looks = 0
        self.is_begun = self.is_expired = self.may_expire = False

    def interrupt(self, *, suspect: bool = True) -> None:
        self.interruptions += 1
        self.survived += not suspect
        self.is_begun, self.state = True, "queued"
        if suspect and self.interruptions - self.survived == 3:
            self._die()

    # --- others ----------------------------------------------------------------------------------

    def wait_or_start(self, prerequisites: Iterable["Life"]) -> None:
        if self.by_id:  # where only an id is known, no record counts as finished
            self.unknown = {each for each in prerequisites if each.state in UNKNOWN}
        self.lacks = {each for each in prerequisites if not each.is_done_for(self)}
        self.state = "waiting" if self.lacks else "scheduled" if self.has_wait else "queued"

    def release(self, prerequisite: "Life") -> None:
        """A prerequisite has ended. It may have been revived since: then it is waited for again."""
        if prerequisite in self.lacks and not prerequisite.is_unfinished:
            self.lacks.discard(prerequisite)
            if self.state == "waiting" and not self.lacks:
                self.state = "scheduled" if self.has_wait else "queued"

    def revive(self) -> None:
        """A fresh budget; and at once, but not before its prerequisites."""
        self._begin_afresh()
        self.unknown |= {each for each in self.lacked if each.state in UNKNOWN}
        self.lacks = {each for each in self.lacked if not each.is_done_for(self)}
        self.lacked, self.has_wait = set(), False
        self.state = "waiting" if self.lacks else "queued"

    def run_now(self) -> None:
        self.was_told_to_run = True
        self.revive()

    def cancel(self) -> None:
        self.lacked, self.lacks = self.lacks, set()
        self.state, self.has_ended_badly = "cancelled", True

    def delete(self) -> None:
        self.lacks = set()
        self.state, self.has_ended_badly = "deleted", True


def place(life: Life) -> tuple[str, str]:
    """The one place where a job is: the member, and the key."""
    member = life.id
    if life.state == "running":
        member += f":{life.held[1].execution.decode()}"
    return member, f"rq:{PLACES[life.state]}:{life.queue}"


def link(life: Life, prerequisite: Life) -> str:
    """The key under which a job stands that waits for another one."""
    return f"jobs:{'followers' if life.any_end else 'dependents'}:{prerequisite.id}"


def links(lives: Iterable[Life]) -> dict[str, set[str]]:
    """Who waits for whom: all that there may be of it."""
    found = defaultdict(set)
    for life in lives:
        for prerequisite in life.lacks:
            found[f"jobs:waits:{life.id}"].add(prerequisite.id)
            found[link(life, prerequisite)].add(life.id)
    return found
