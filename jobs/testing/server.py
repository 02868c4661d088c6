"""
A Redis server in memory, for one test: the commands that the scripts and the readers of jobs use, as Redis has them.
"""

from collections.abc import Callable, Mapping
from typing import Any

from redis.exceptions import ResponseError

from jobs import runtime
from jobs.testing.keyspace import OK, SYNTAX, Hash, Set, Status, Stream, not_negative, whole
from jobs.testing.lists import Lists
from jobs.testing.sorted_sets import SortedSets


class _Commands(dict[bytes, Callable[..., Any]]):
    def __missing__(self, name: bytes) -> Callable[..., Any]:
        if not name.isupper() and name.upper() in self:
            return self[name.upper()]
        raise NotImplementedError(f"The testing kit's server has no {name.decode(errors='replace')}.")


class Server(Lists, SortedSets):
    """Each method, its own or inherited, is the command of that name, but for those that begin with an underscore."""

    def __init__(self) -> None:
        super().__init__()
        self._entries = 0  # of streams, ever
        self.commands: Mapping[bytes, Callable[..., Any]] = _Commands(
            (name.strip("_").upper().encode(), getattr(self, name))
            for kind in Server.__mro__[:-1]
            for name in vars(kind)
            if not name.startswith("_")
        )

    # --- the server ------------------------------------------------------------------------------

    def time(self) -> list[bytes]:
        # Rounded up: what is due at the very moment at which a test's clock stands is due.
        numerator, denominator = runtime.now().as_integer_ratio()  # a product of floats may come out too low
        seconds, microseconds = divmod(-(-numerator * 1_000_000 // denominator), 1_000_000)
        return [b"%d" % seconds, b"%d" % microseconds]

    def publish(self, channel: bytes, message: bytes) -> int:
        return 0  # nobody listens

    # --- strings ---------------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        return self._read(key, bytes) or (b"" if self._find(key) is not None else None)

    def set_(self, key: bytes, value: bytes, *options: bytes) -> Status | bytes | None:
        names, ends = set(), []
        words = list(options)
        while words:
            name = words.pop(0).upper()
            if name in (b"EX", b"PX", b"EXAT", b"PXAT") and words:
                ends.append((name, words.pop(0)))
            else:
                names.add(name)
        if not names <= {b"NX", b"XX", b"GET", b"KEEPTTL"}:
            raise NotImplementedError(f"The testing kit's server has no SET with {options}.")
        if {b"NX", b"XX"} <= names or len(ends) + (b"KEEPTTL" in names) > 1:
            raise ResponseError(SYNTAX)
        if any(whole(end) <= 0 for _, end in ends):
            raise ResponseError("invalid expire time in 'set' command")
        before = self.get(key) if b"GET" in names else None
        is_known = self._find(key) is not None
        if is_known if b"NX" in names else (b"XX" in names and not is_known):
            return before
        kept = self._ends.get(key) if b"KEEPTTL" in names else None
        self._remove(key)
        self._values[key] = value
        if kept is not None:
            self._ends[key] = kept
        for name, end in ends:
            {b"EX": self.expire, b"PX": self.pexpire, b"EXAT": self.expireat, b"PXAT": self.pexpireat}[name](key, end)
        return before if b"GET" in names else OK

    def setnx(self, key: bytes, value: bytes) -> int:
        return int(self.set_(key, value, b"NX") is not None)

    def mget(self, *keys: bytes) -> list[bytes | None]:
        values = map(self._find, keys)
        return [value if type(value) is bytes else None for value in values]

    def getdel(self, key: bytes) -> bytes | None:
        value = self.get(key)
        self._remove(key)
        return value

    def strlen(self, key: bytes) -> int:
        return len(self._read(key, bytes))

    def incr(self, key: bytes) -> int:
        return self.incrby(key, b"1")

    def decr(self, key: bytes) -> int:
        return self.incrby(key, b"-1")

    def decrby(self, key: bytes, decrement: bytes) -> int:
        return self.incrby(key, b"%d" % -whole(decrement))

    def incrby(self, key: bytes, increment: bytes) -> int:
        value = self.get(key)
        total = whole(b"0" if value is None else value) + whole(increment)
        self._values[key] = b"%d" % total
        return total

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

    def hkeys(self, key: bytes) -> list[bytes]:
        return list(self._read(key, Hash))

    def hvals(self, key: bytes) -> list[bytes]:
        return list(self._read(key, Hash).values())

    def hscan(self, key: bytes, cursor: bytes, *options: bytes) -> list[Any]:
        if options[:1] not in ((), (b"COUNT",)) or len(options) > 2:
            raise NotImplementedError(f"The testing kit's server has no HSCAN with {options}.")
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

    def smismember(self, key: bytes, *members: bytes) -> list[int]:
        return [self.sismember(key, member) for member in members]

    def smove(self, source: bytes, target: bytes, member: bytes) -> int:
        self._read(target, Set)
        if not self.sismember(source, member):
            return 0
        self.srem(source, member)
        self.sadd(target, member)
        return 1

    def sunion(self, *keys: bytes) -> list[bytes]:
        return list(dict.fromkeys(member for key in keys for member in self._read(key, Set)))

    def sinter(self, key: bytes, *keys: bytes) -> list[bytes]:
        others = [self._read(other, Set) for other in keys]
        return [member for member in self._read(key, Set) if all(member in other for other in others)]

    def sdiff(self, key: bytes, *keys: bytes) -> list[bytes]:
        others = [self._read(other, Set) for other in keys]
        return [member for member in self._read(key, Set) if not any(member in other for other in others)]

    # Which members, is up to the server: here the ones that came first.

    def srandmember(self, key: bytes, count: bytes | None = None) -> list[bytes] | bytes | None:
        members = self.smembers(key)
        if count is None:
            return next(iter(members), None)
        if whole(count) < 0:
            raise NotImplementedError("The testing kit's server has no SRANDMEMBER with a negative count.")
        return members[: whole(count)]

    def spop(self, key: bytes, count: bytes | None = None) -> list[bytes] | bytes | None:
        chosen = self.smembers(key)[: 1 if count is None else not_negative(count)]
        self._taken(key, Set, chosen)
        return chosen if count is not None else next(iter(chosen), None)

    # --- streams ---------------------------------------------------------------------------------

    def xadd(self, key: bytes, *words: bytes) -> bytes:
        match words:
            case (b"MAXLEN", most, b"*", *fields) | (b"MAXLEN", b"=" | b"~", most, b"*", *fields):
                pass
            case _:
                raise NotImplementedError(f"The testing kit's server has no XADD with {words}.")
        entries = self._written(key, Stream)
        self._entries += 1
        entry_id = b"%d-%d" % (runtime.now() * 1_000, self._entries)
        entries.append((entry_id, tuple(fields)))
        del entries[: -whole(most)]
        return entry_id

    def xlen(self, key: bytes) -> int:
        return len(self._read(key, Stream))

    def xrevrange(self, key: bytes, last: bytes, first: bytes, *options: bytes) -> list[Any]:
        if (last, first) != (b"+", b"-") or options[:1] not in ((), (b"COUNT",)):
            raise NotImplementedError(
                f"The testing kit's server has no XREVRANGE from {last!r} to {first!r}, {options}."
            )
        entries = self._read(key, Stream)[::-1][: whole(options[1]) if options else None]
        return [[entry_id, list(fields)] for entry_id, fields in entries]
