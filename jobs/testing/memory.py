"""
The contents of Redis in memory: the same keys with the same meaning, for one test.

Readers of jobs (`job.state`, prerequisites, RQ's own `Job.fetch`) read it as they read a server. The code that writes
is in `scripts`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from types import SimpleNamespace
from typing import Any, NoReturn, Self

from redis.exceptions import ConnectionError as RedisConnectionError

from jobs.broker.connections import Word
from jobs.testing.server import Server


class Memory:
    """A client with the commands that this package and RQ's readers use. AttributeError for other commands."""

    def __init__(self) -> None:
        self.connection_pool = SimpleNamespace(connection_kwargs={"path": "memory"})
        self._server = Server()
        self.is_away = False  # whether it answers nothing

    def __getattr__(self, command: str) -> NoReturn:
        raise AttributeError(
            f"The testing kit keeps jobs in memory and knows no {command!r}. Plain RQ jobs, and RQ's tools that write, "
            "need a server: jobs.testing.run_worker()."
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Django copies the objects that `setUpTestData` has set for each test, jobs too; the server stays the same."""
        return self

    def hget(self, key: Any, field: str) -> bytes | None:
        return self._ask("HGET", key, field)  # type: ignore[no-any-return]

    def hmget(self, key: Any, *fields: Any) -> list[bytes | None]:
        names = fields[0] if len(fields) == 1 and not isinstance(fields[0], str) else fields
        return self._ask("HMGET", key, *names)  # type: ignore[no-any-return]

    def hgetall(self, key: Any) -> dict[bytes, bytes]:
        return _pairs(self._ask("HGETALL", key))

    def hexists(self, key: Any, field: str) -> bool:
        return bool(self._ask("HEXISTS", key, field))

    def hset(self, key: Any, *, mapping: Mapping[str, Word]) -> int:
        return self._ask("HSET", key, *(word for pair in mapping.items() for word in pair))  # type: ignore[no-any-return]

    def hdel(self, key: Any, *fields: str) -> int:
        return self._ask("HDEL", key, *fields)  # type: ignore[no-any-return]

    def exists(self, *keys: Any) -> int:
        return self._ask("EXISTS", *keys)  # type: ignore[no-any-return]

    def delete(self, *keys: Any) -> int:
        return self._ask("DEL", *keys)  # type: ignore[no-any-return]

    def expire(self, key: Any, seconds: int) -> bool:
        return bool(self._ask("EXPIRE", key, seconds))

    def get(self, key: Any) -> bytes | None:
        return self._ask("GET", key)  # type: ignore[no-any-return]

    def smembers(self, key: Any) -> Set[bytes]:
        return set(self._ask("SMEMBERS", key))

    def sunion(self, keys: Sequence[Any]) -> Set[bytes]:
        return set().union(*map(self.smembers, keys))

    def sadd(self, key: Any, *members: Word) -> int:
        return self._ask("SADD", key, *members)  # type: ignore[no-any-return]

    def srem(self, key: Any, *members: Word) -> int:
        return self._ask("SREM", key, *members)  # type: ignore[no-any-return]

    def scard(self, key: Any) -> int:
        return self._ask("SCARD", key)  # type: ignore[no-any-return]

    def sismember(self, key: Any, member: Word) -> int:
        return self._ask("SISMEMBER", key, member)  # type: ignore[no-any-return]

    def sscan(self, key: Any, cursor: int = 0, count: int | None = None) -> tuple[int, list[bytes]]:
        return 0, self._ask("SMEMBERS", key)

    def srandmember(self, key: Any, count: int) -> list[bytes]:
        return self._ask("SRANDMEMBER", key, count)  # type: ignore[no-any-return]

    def llen(self, key: Any) -> int:
        return self._ask("LLEN", key)  # type: ignore[no-any-return]

    def lrange(self, key: Any, first: int, last: int) -> list[bytes]:
        return self._ask("LRANGE", key, first, last)  # type: ignore[no-any-return]

    def zadd(self, key: Any, mapping: Mapping[Any, float]) -> int:
        return self._ask("ZADD", key, *(word for member, score in mapping.items() for word in (score, member)))  # type: ignore[no-any-return]

    def zscan_iter(self, key: Any, match: str = "", count: int | None = None) -> Iterator[tuple[bytes, float]]:
        """Iterate over all members, whether or not they match."""
        words = self._ask("ZRANGE", key, 0, -1, "WITHSCORES")
        return iter([(member, float(score)) for member, score in zip(words[::2], words[1::2], strict=True)])

    def zcard(self, key: Any) -> int:
        return self._ask("ZCARD", key)  # type: ignore[no-any-return]

    def zrevrange(self, key: Any, first: int, last: int) -> list[bytes]:
        return self._ask("ZREVRANGE", key, first, last)  # type: ignore[no-any-return]

    def zscore(self, key: Any, member: Word) -> float | None:
        score = self._ask("ZSCORE", key, member)
        return None if score is None else float(score)

    def xrevrange(self, key: Any, last: str = "+", first: str = "-", count: int | None = None) -> list[Any]:
        options = () if count is None else ("COUNT", count)
        return [(entry_id, _pairs(words)) for entry_id, words in self._ask("XREVRANGE", key, last, first, *options)]

    def set(self, key: Any, value: Word, *, ex: int, nx: bool = False) -> bool:
        return self._ask("SET", key, value, "EX", ex, *(("NX",) if nx else ())) is not None

    def pipeline(self, transaction: bool = True) -> "_Pipeline":
        return _Pipeline(self)

    def _ask(self, command: str, *words: Any) -> Any:
        """Return the answer to a command. Raises redis-py's ResponseError; its ConnectionError while it is away."""
        self._reach()
        return self._server.commands[command.encode()](*map(bytes_of, words))

    def _reach(self) -> None:
        if self.is_away:
            raise RedisConnectionError("the test has it away")


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

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        return self._answers


def bytes_of(word: Word) -> bytes:
    """Return a word of a command as bytes, as a client sends it."""
    return word if isinstance(word, bytes) else str(word).encode()


def _pairs(words: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(words[::2], words[1::2], strict=True))
