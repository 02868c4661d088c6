"""
The contents of Redis in memory: the same keys with the same meaning, for one test.

Readers of jobs (`job.state`, prerequisites, RQ's own `Job.fetch`) read it as they read a server. The code that writes
is in `scripts`.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NoReturn, Self

from jobs import runtime
from jobs.broker.connections import Word


class Memory:
    """A client with the commands that this package and RQ's readers use. AttributeError for other commands."""

    def __init__(self) -> None:
        self.connection_pool = SimpleNamespace(connection_kwargs={"path": "memory"})
        self.hashes: dict[str, dict[str, bytes]] = defaultdict(dict)
        self.lists: dict[str, list[bytes]] = defaultdict(list)  # the queues
        self.scores: dict[str, dict[bytes, float]] = defaultdict(dict)  # the registries
        self.sets: dict[str, set[bytes]] = defaultdict(set)
        self.texts: dict[str, bytes] = {}
        self.streams: dict[str, list[tuple[bytes, dict[bytes, bytes]]]] = defaultdict(list)
        self.ends: dict[str, float] = {}  # when a key expires, in seconds since the epoch

    def __getattr__(self, command: str) -> NoReturn:
        raise AttributeError(
            f"The testing kit keeps jobs in memory and knows no {command!r}. Plain RQ jobs, and RQ's tools that write, "
            "need a server: jobs.testing.run_worker()."
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Django copies the objects that `setUpTestData` has set for each test, jobs too; the server stays the same."""
        return self

    # --- as a client -----------------------------------------------------------------------------

    def hget(self, key: Any, field: str) -> bytes | None:
        return self.hashes.get(self._alive(key), {}).get(field)

    def hmget(self, key: Any, *fields: Any) -> list[bytes | None]:
        names = fields[0] if len(fields) == 1 and not isinstance(fields[0], str) else fields
        return [self.hget(key, name) for name in names]

    def hgetall(self, key: Any) -> dict[bytes, bytes]:
        return {name.encode(): value for name, value in self.hashes.get(self._alive(key), {}).items()}

    def hexists(self, key: Any, field: str) -> bool:
        return self.hget(key, field) is not None

    def exists(self, *keys: Any) -> int:
        return sum(any(kind.get(self._alive(key)) for kind in self._kinds()) for key in keys)

    def get(self, key: Any) -> bytes | None:
        return self.texts.get(self._alive(key))

    def smembers(self, key: Any) -> set[bytes]:
        return set(self.sets.get(text_of(key), ()))

    def sunion(self, keys: Sequence[Any]) -> set[bytes]:
        return set().union(*(self.smembers(key) for key in keys))

    def sadd(self, key: Any, *members: Word) -> int:
        before = len(self.sets[text_of(key)])
        self.sets[text_of(key)].update(map(bytes_of, members))
        return len(self.sets[text_of(key)]) - before

    def srem(self, key: Any, *members: Word) -> int:
        before = len(self.sets[text_of(key)])
        self.sets[text_of(key)].difference_update(map(bytes_of, members))
        return before - len(self.sets[text_of(key)])

    def llen(self, key: Any) -> int:
        return len(self.lists.get(text_of(key), ()))

    def lrange(self, key: Any, first: int, last: int) -> list[bytes]:
        return self.lists.get(text_of(key), [])[first : None if last == -1 else last + 1]

    def zcard(self, key: Any) -> int:
        return len(self.scores.get(text_of(key), ()))

    def zscore(self, key: Any, member: Word) -> float | None:
        return self.scores.get(text_of(key), {}).get(bytes_of(member))

    def xrevrange(self, key: Any, last: str = "+", first: str = "-", count: int | None = None) -> list[Any]:
        return list(reversed(self.streams.get(self._alive(key), [])))[:count]

    def pipeline(self, transaction: bool = True) -> "_Pipeline":
        return _Pipeline(self)

    # --- as a server -----------------------------------------------------------------------------

    def forget(self, key: str) -> None:
        """DEL."""
        self.ends.pop(key, None)
        for kind in self._kinds():
            kind.pop(key, None)

    def _alive(self, key: Any) -> str:
        """Return the key as text. Deletes it first if it has expired."""
        name = text_of(key)
        if name in self.ends and self.ends[name] <= runtime.now():
            self.forget(name)
        return name

    def _kinds(self) -> tuple[dict[str, Any], ...]:
        return self.hashes, self.lists, self.scores, self.sets, self.texts, self.streams


class _Pipeline:
    """Commands whose answers are returned together."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._answers: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __getattr__(self, command: str) -> Callable[..., Any]:
        run = getattr(self._memory, command)
        return lambda *words: self._answers.append(run(*words))

    def execute(self) -> list[Any]:
        return self._answers


def text_of(key: Any) -> str:
    """Return a key as text."""
    return key.decode() if isinstance(key, bytes) else str(key)


def bytes_of(word: Any) -> bytes:
    """Return a word of a command as bytes, as the server stores it."""
    return word if isinstance(word, bytes) else str(word).encode()
