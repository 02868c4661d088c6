"""
The keys of the server in memory: each has a value of one type, and may expire.

Words are bytes. An answer is what the wire carries: bytes, a whole number, None, or a list of answers. Commands raise
redis-py's ResponseError where a server answers an error, NotImplementedError for what is missing here.
"""

from collections.abc import Callable, Iterable
from math import ceil, inf
from typing import Any

from redis.exceptions import ResponseError

from jobs import runtime


class Status(bytes):
    """An answer that is a status, such as OK."""


class Hash(dict[bytes, bytes]):
    pass


class List(list[bytes]):
    pass


class Set(dict[bytes, None]):
    """A set. It keeps the order in which its members came, so that a test runs alike each time."""


class SortedSet(dict[bytes, float]):
    pass


class Stream(list[tuple[bytes, tuple[bytes, ...]]]):
    pass


_TYPES: dict[type, bytes] = {
    bytes: b"string",
    Hash: b"hash",
    List: b"list",
    Set: b"set",
    SortedSet: b"zset",
    Stream: b"stream",
}
OK = Status(b"OK")
SYNTAX = "syntax error"


class Keys:
    """The keys, and the commands for keys of any type."""

    def __init__(self) -> None:
        self._values: dict[bytes, Any] = {}
        self._ends: dict[bytes, float] = {}  # when a key expires, in seconds since the epoch

    def del_(self, *keys: bytes) -> int:
        return sum(self._find(key) is not None and self._remove(key) for key in keys)

    unlink = del_

    def exists(self, *keys: bytes) -> int:
        return sum(self._find(key) is not None for key in keys)

    def type_(self, key: bytes) -> Status:
        value = self._find(key)
        return Status(b"none" if value is None else _TYPES[type(value)])

    def rename(self, key: bytes, name: bytes) -> Status:
        if (value := self._find(key)) is None:
            raise ResponseError("no such key")
        ends = self._ends.get(key)
        self._remove(key)
        self._remove(name)
        self._values[name] = value
        if ends is not None:
            self._ends[name] = ends
        return OK

    def expire(self, key: bytes, seconds: bytes, *options: bytes) -> int:
        return self._expire(key, runtime.now() + whole(seconds), options)

    def pexpire(self, key: bytes, milliseconds: bytes, *options: bytes) -> int:
        return self._expire(key, runtime.now() + whole(milliseconds) / 1_000, options)

    def expireat(self, key: bytes, at: bytes, *options: bytes) -> int:
        return self._expire(key, whole(at), options)

    def pexpireat(self, key: bytes, at: bytes, *options: bytes) -> int:
        return self._expire(key, whole(at) / 1_000, options)

    def persist(self, key: bytes) -> int:
        return int(self._find(key) is not None and self._ends.pop(key, None) is not None)

    def pttl(self, key: bytes) -> int:
        if self._find(key) is None:
            return -2
        return ceil((self._ends[key] - runtime.now()) * 1_000) if key in self._ends else -1

    def ttl(self, key: bytes) -> int:
        left = self.pttl(key)
        return left if left < 0 else (left + 500) // 1_000

    # --- the keys' values ------------------------------------------------------------------------

    def _find(self, key: bytes) -> Any:
        """Return a key's value, None if it has none. Deletes the key first if it has expired."""
        if key in self._ends and self._ends[key] <= runtime.now():
            self._remove(key)
        return self._values.get(key)

    def _read(self, key: bytes, kind: Callable[[], Any]) -> Any:
        """Return a key's value, an empty one if it has none."""
        value = self._find(key)
        if value is None:
            return kind()
        if type(value) is not kind:
            raise ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
        return value

    def _written(self, key: bytes, kind: Callable[[], Any]) -> Any:
        """Return a key's value that is about to grow."""
        value = self._values[key] = self._read(key, kind)
        return value

    def _taken(self, key: bytes, kind: Callable[[], Any], members: Iterable[bytes]) -> int:
        """Remove members of a value, or fields of a hash. Returns how many there were."""
        value = self._read(key, kind)
        before = len(value)
        for member in members:
            value.pop(member, None)
        self._shrunk(key, value)
        return before - len(value)

    def _shrunk(self, key: bytes, value: Any) -> None:
        if not value:
            self._remove(key)

    def _remove(self, key: bytes) -> bool:
        self._ends.pop(key, None)
        return self._values.pop(key, None) is not None

    def _expire(self, key: bytes, at: float, options: tuple[bytes, ...]) -> int:
        flags, before = {option.upper() for option in options}, self._ends.get(key)
        if unknown := flags - {b"NX", b"XX", b"GT", b"LT"}:
            raise ResponseError(f"Unsupported option {min(unknown).decode()}")
        if self._find(key) is None or (b"NX" in flags and before is not None) or (b"XX" in flags and before is None):
            return 0
        if (b"GT" in flags and at <= (before or inf)) or (b"LT" in flags and at >= (before or inf)):
            return 0
        self._ends[key] = at
        return 1


def whole(word: bytes, what: str = "value is not an integer or out of range") -> int:
    try:
        return int(word)
    except ValueError:
        raise ResponseError(what) from None


def number(word: bytes, what: str = "value is not a valid float") -> float:
    try:
        return float(word)
    except ValueError:
        raise ResponseError(what) from None


def not_negative(word: bytes) -> int:
    """Return a count."""
    if (count := whole(word)) < 0:
        raise ResponseError("value is out of range, must be positive")
    return count


def span(length: int, first: bytes, last: bytes) -> slice:
    """Return the part of a list from an index up to an index, both in it; negative ones count from the end."""
    start, end = whole(first), whole(last)
    start = max(0, start + length) if start < 0 else start
    return slice(start, max(start, (end + length if end < 0 else end) + 1))
