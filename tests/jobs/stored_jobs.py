"""All that lies in the server about jobs, read at once, to be held against the model in `job_model.py`."""

from collections import Counter
from collections.abc import Iterable

from jobs.record.states import state_of
from jobs.retries import Progress
from tests.jobs.job_model import NO_RECORD, Life, link, links, place

REGISTRIES = ("wip", "scheduled", "deferred", "finished", "failed", "canceled")
READ = {"queue": "lrange", "job": "hgetall", "counts": "hgetall", **dict.fromkeys(REGISTRIES, "zrange")}
READ |= dict.fromkeys(("waits", "dependents", "followers", "releasing"), "smembers") | {"unique": "get"}


class Books:
    """`held` and `ttls` are what each key holds and how long it is kept, by key."""

    def __init__(self, client):
        keys = sorted(key.decode() for key in client.scan_iter(count=10_000))
        with client.pipeline(transaction=False) as pipeline:
            for key in keys:
                read = READ.get(key.split(":")[1], "type")
                getattr(pipeline, read)(key, *([0, -1] if read in {"lrange", "zrange"} else []))
                pipeline.ttl(key)
            answers = pipeline.execute()
        self.held = dict(zip(keys, answers[::2], strict=True))
        self.ttls = dict(zip(keys, answers[1::2], strict=True))

    def check(self, lives: list[Life], holders: Iterable[Life]) -> None:
        """Each job is in the one place that fits its state, and waits for what it lacks; no key is left of others."""
        assert self.places() == sorted(place(life) for life in lives if life.state not in NO_RECORD)
        assert self.links() == links(lives)
        for life in lives:
            if life.state != "duplicate":
                self.check_record(life)
        for life in lives:
            for prerequisite in life.lacks:  # what is done, and not told yet, is to be
                if prerequisite.is_done_for(life):
                    assert link(life, prerequisite).encode() in self.held["jobs:releasing"]
        locks = {lock for key, lock in self.held.items() if key.startswith("jobs:unique:")}
        assert locks == {life.id.encode() for life in holders}
        unfinished = Counter(life.command for life in lives if life.is_unique and life.is_unfinished)
        assert set(unfinished.values()) <= {1}

    def check_record(self, life: Life) -> None:
        """Its state, and that it ends in time if it has ended, and what its attempts raised with it."""
        record, results = life.job.key, f"rq:results:{life.id}"
        if life.state in NO_RECORD:
            assert not {record, results} & self.held.keys()
            return
        fields = self.held[record]
        state = state_of(fields[b"status"].decode(), fields.get(b"state", b"").decode())
        if life.state == "waiting":
            state = life.job.state  # which looks at its prerequisites, too
        assert state == ("blocked" if life.is_blocked else life.state)
        progress = Progress.load(fields.get(b"progress", b""))
        assert (progress.requeues, sum(progress.failures.values())) == (life.requeues, life.failures + life.flakes)
        counts = int(fields.get(b"interruptions", 0)), int(fields.get(b"survived", 0))
        assert counts == (life.interruptions, life.survived)
        assert (b"expires_at" in fields) == life.may_expire
        ends = {self.ttls[key] > 0 for key in (record, results) if key in self.held}
        assert ends == {not life.is_unfinished}

    def places(self) -> list[tuple[str, str]]:
        return sorted(
            (member.decode(), key)
            for key, members in self.held.items()
            if key.split(":")[1] in {"queue", *REGISTRIES}
            for member in members
        )

    def links(self) -> dict[str, set[str]]:
        kinds = ("jobs:waits:", "jobs:dependents:", "jobs:followers:")
        return {
            key: {member.decode() for member in members} for key, members in self.held.items() if key.startswith(kinds)
        }

    def counts(self) -> Counter[str]:
        """How many attempts ended as what."""
        found: Counter[str] = Counter()
        for key, labels in self.held.items():
            if key.startswith("jobs:counts:"):
                for label, count in labels.items():
                    found[label.decode().split("|")[2]] += int(count)
        return found
