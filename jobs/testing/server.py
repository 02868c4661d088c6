"""
A Redis server in memory, for one test: the commands that the scripts and the readers of jobs use, as Redis has them.
"""

from collections.abc import Callable, Mapping
from math import ceil
from typing import Any, NoReturn

from redis.exceptions import ResponseError

from jobs import runtime
from jobs.testing.keyspace import OK, Hash, Keys, List, Set, SortedSet, Status, Stream, number, whole


class _Commands(dict[bytes, Callable[..., Any]]):
    def __missing__(self, name: bytes) -> NoReturn:
        raise NotImplementedError(f"The testing kit's server has no {name.decode(errors='replace')}.")


class Server(Keys):
    """Each method, its own or of Keys, is the command of that name, but for those that begin with an underscore."""

    def __init__(self) -> None:
        super().__init__()
        self._entries = 0  # of streams, ever
        self.commands: Mapping[bytes, Callable[..., Any]] = _Commands(
            (name.strip("_").upper().encode(), getattr(self, name))
            for kind in (Keys, Server)
            for name in vars(kind)
            if not name.startswith("_")
        )

    # --- the server ------------------------------------------------------------------------------

    def time(self) -> list[bytes]:
        # Rounded up: what is due at the very moment at which a test's clock stands is due.
        seconds, microseconds = divmod(ceil(runtime.now() * 1_000_000), 1_000_000)
        return [b"%d" % seconds, b"%d" % microseconds]

    def publish(self, channel: bytes, message: bytes) -> int:
        return 0  # nobody listens

    # --- strings ---------------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        return self._read(key, bytes) or (b"" if self._find(key) is not None else None)

    def set_(self, key: bytes, value: bytes, *options: bytes) -> Status:
        self._remove(key)
        self._values[key] = value
        match options:
            case ():
                pass
            case (b"EX", seconds):
                self.expire(key, seconds)
            case (b"PX", milliseconds):
                self.pexpire(key, milliseconds)
            case _:
                raise NotImplementedError(f"SET with {options}")
        return OK

    # --- hashes ----------------------------------------------------------------------------------

    def hset(self, key: bytes, *words: bytes) -> int:
        fields = self._written(key, Hash)
        before = len(fields)
        fields.update(zip(words[::2], words[1::2], strict=True))
        return len(fields) - before

    def hsetnx(self, key: bytes, name: bytes, value: bytes) -> int:
        return 0 if self.hexists(key, name) else self.hset(key, name, value)

    def hget(self, key: bytes, name: bytes) -> bytes | None:
        return self._read(key, Hash).get(name)  # type: ignore[no-any-return]

    def hmget(self, key: bytes, *names: bytes) -> list[bytes | None]:
        return list(map(self._read(key, Hash).get, names))

    def hgetall(self, key: bytes) -> list[bytes]:
        return [word for pair in self._read(key, Hash).items() for word in pair]

    def hscan(self, key: bytes, cursor: bytes, *options: bytes) -> list[Any]:
        return [b"0", self.hgetall(key)]  # all of it, as of a small hash

    def hdel(self, key: bytes, *names: bytes) -> int:
        return self._taken(key, Hash, names)

    def hexists(self, key: bytes, name: bytes) -> int:
        return int(name in self._read(key, Hash))

    def hlen(self, key: bytes) -> int:
        return len(self._read(key, Hash))

    def hstrlen(self, key: bytes, name: bytes) -> int:
        return len(self._read(key, Hash).get(name, b""))

    def hincrby(self, key: bytes, name: bytes, increment: bytes) -> int:
        total = whole(self.hget(key, name) or b"0", "hash value is not an integer") + whole(increment)
        self.hset(key, name, b"%d" % total)
        return total

    # --- lists -----------------------------------------------------------------------------------

    def lpush(self, key: bytes, *members: bytes) -> int:
        items = self._written(key, List)
        items[:0] = reversed(members)
        return len(items)

    def rpush(self, key: bytes, *members: bytes) -> int:
        items = self._written(key, List)
        items.extend(members)
        return len(items)

    def llen(self, key: bytes) -> int:
        return len(self._read(key, List))

    def lrange(self, key: bytes, first: bytes, last: bytes) -> list[bytes]:
        items: list[bytes] = self._read(key, List)
        return items[_slice(len(items), first, last)]

    def ltrim(self, key: bytes, first: bytes, last: bytes) -> Status:
        items = self._read(key, List)
        items[:] = items[_slice(len(items), first, last)]
        self._shrunk(key, items)
        return OK

    def lset(self, key: bytes, index: bytes, member: bytes) -> Status:
        items = self._read(key, List)
        if not items:
            raise ResponseError("no such key")
        try:
            items[whole(index)] = member
        except IndexError:
            raise ResponseError("index out of range") from None
        return OK

    def lrem(self, key: bytes, count: bytes, member: bytes) -> int:
        items, most = self._read(key, List), whole(count)
        places = [at for at, item in enumerate(items) if item == member]
        places = places[most:] if most < 0 else places[: most or None]
        for at in reversed(places):
            del items[at]
        self._shrunk(key, items)
        return len(places)

    def lpos(self, key: bytes, member: bytes, *options: bytes) -> int | None:
        items, given = self._read(key, List), dict(zip(options[::2], options[1::2], strict=True))
        rank, most = whole(given.pop(b"RANK", b"1")), whole(given.pop(b"MAXLEN", b"0")) or len(items)
        if given or abs(rank) != 1:
            raise NotImplementedError(f"LPOS with {options}")
        places = range(len(items))[:most] if rank > 0 else reversed(range(len(items))[-most:])
        return next((at for at in places if items[at] == member), None)

    # --- sets ------------------------------------------------------------------------------------

    def sadd(self, key: bytes, *members: bytes) -> int:
        known = self._written(key, Set)
        before = len(known)
        known.update(dict.fromkeys(members))
        return len(known) - before

    def srem(self, key: bytes, *members: bytes) -> int:
        return self._taken(key, Set, members)

    def scard(self, key: bytes) -> int:
        return len(self._read(key, Set))

    def sismember(self, key: bytes, member: bytes) -> int:
        return int(member in self._read(key, Set))

    def smembers(self, key: bytes) -> list[bytes]:
        return list(self._read(key, Set))

    def srandmember(self, key: bytes, count: bytes | None = None) -> list[bytes] | bytes | None:
        members = self.smembers(key)
        return next(iter(members), None) if count is None else members[: whole(count)]

    # --- sorted sets -----------------------------------------------------------------------------

    def zadd(self, key: bytes, *words: bytes) -> int:
        only_new = words[0] == b"NX"
        words = words[only_new:]
        pairs = [(member, number(score)) for score, member in zip(words[::2], words[1::2], strict=True)]
        known = self._written(key, SortedSet)
        before = len(known)
        known.update((member, score) for member, score in pairs if not (only_new and member in known))
        return len(known) - before

    def zrem(self, key: bytes, *members: bytes) -> int:
        return self._taken(key, SortedSet, members)

    def zcard(self, key: bytes) -> int:
        return len(self._read(key, SortedSet))

    def zscore(self, key: bytes, member: bytes) -> bytes | None:
        score = self._read(key, SortedSet).get(member)
        return None if score is None else _shown(score)

    def zcount(self, key: bytes, least: bytes, most: bytes) -> int:
        return len(self._between(key, least, most))

    def zrange(self, key: bytes, first: bytes, last: bytes, *options: bytes) -> list[bytes]:
        members = self._between(key, b"-inf", b"+inf")
        return _answered(members[_slice(len(members), first, last)], options)

    def zrevrange(self, key: bytes, first: bytes, last: bytes, *options: bytes) -> list[bytes]:
        members = self._between(key, b"-inf", b"+inf")[::-1]
        return _answered(members[_slice(len(members), first, last)], options)

    def zrangebyscore(self, key: bytes, least: bytes, most: bytes, *options: bytes) -> list[bytes]:
        return _answered(self._between(key, least, most), options)

    def zrevrangebyscore(self, key: bytes, most: bytes, least: bytes, *options: bytes) -> list[bytes]:
        return _answered(self._between(key, least, most)[::-1], options)

    def zremrangebyscore(self, key: bytes, least: bytes, most: bytes) -> int:
        return self._taken(key, SortedSet, [member for member, _ in self._between(key, least, most)])

    # --- streams ---------------------------------------------------------------------------------

    def xadd(self, key: bytes, *words: bytes) -> bytes:
        match words:
            case (b"MAXLEN", most, b"*", *fields):
                pass
            case _:
                raise NotImplementedError(f"XADD with {words}")
        entries = self._written(key, Stream)
        self._entries += 1
        entry_id = b"%d-%d" % (runtime.now() * 1_000, self._entries)
        entries.append((entry_id, tuple(fields)))
        del entries[: -whole(most)]
        return entry_id

    def xrevrange(self, key: bytes, last: bytes, first: bytes, *options: bytes) -> list[Any]:
        if (last, first) != (b"+", b"-") or options[:1] not in ((), (b"COUNT",)):
            raise NotImplementedError(f"XREVRANGE from {last!r} to {first!r} with {options}")
        entries = self._read(key, Stream)[::-1][: whole(options[1]) if options else None]
        return [[entry_id, list(fields)] for entry_id, fields in entries]

    def _between(self, key: bytes, least: bytes, most: bytes) -> list[tuple[bytes, float]]:
        """Return the members of a sorted set with a score between those bounds, in order, with their scores."""
        low, high = (number(bound.removeprefix(b"("), "min or max is not a float") for bound in (least, most))
        chosen = [
            (member, score)
            for member, score in self._read(key, SortedSet).items()
            if low <= score <= high
            and not (score == low and least.startswith(b"("))
            and not (score == high and most.startswith(b"("))
        ]
        return sorted(chosen, key=lambda pair: (pair[1], pair[0]))


def _shown(score: float) -> bytes:
    return b"%d" % score if score.is_integer() else repr(score).encode()


def _slice(length: int, first: bytes, last: bytes) -> slice:
    start, end = whole(first), whole(last)
    start = max(0, start + length) if start < 0 else start
    return slice(start, max(start, (end + length if end < 0 else end) + 1))


def _answered(members: list[tuple[bytes, float]], options: tuple[bytes, ...]) -> list[bytes]:
    """Return the members, with the options that select some of them, or add their scores."""
    match options:
        case (*before, b"LIMIT", offset, count):
            members, options = members[whole(offset) :][: whole(count)], tuple(before)
    match options:
        case ():
            return [member for member, _ in members]
        case (b"WITHSCORES",):
            return [word for member, score in members for word in (member, _shown(score))]
    raise NotImplementedError(f"a sorted set with {options}")
