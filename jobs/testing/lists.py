"""The commands for lists of the server in memory."""

from redis.exceptions import ResponseError

from jobs.testing.keyspace import OK, SYNTAX, Keys, List, Status, not_negative, span, whole


class Lists(Keys):
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
        return items[span(len(items), first, last)]

    def ltrim(self, key: bytes, first: bytes, last: bytes) -> Status:
        items = self._read(key, List)
        items[:] = items[span(len(items), first, last)]
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

    def lindex(self, key: bytes, index: bytes) -> bytes | None:
        items: list[bytes] = self._read(key, List)
        at = whole(index)
        return items[at] if -len(items) <= at < len(items) else None

    def linsert(self, key: bytes, where: bytes, pivot: bytes, member: bytes) -> int:
        items: list[bytes] = self._read(key, List)
        if where.upper() not in (b"BEFORE", b"AFTER"):
            raise ResponseError(SYNTAX)
        if pivot not in items:
            return -1 if items else 0
        items.insert(items.index(pivot) + (where.upper() == b"AFTER"), member)
        return len(items)

    def lpop(self, key: bytes, count: bytes | None = None) -> bytes | list[bytes] | None:
        return self._popped(key, count, at_head=True)

    def rpop(self, key: bytes, count: bytes | None = None) -> bytes | list[bytes] | None:
        return self._popped(key, count, at_head=False)

    def lmove(self, source: bytes, target: bytes, from_end: bytes, to_end: bytes) -> bytes | None:
        ends = from_end.upper(), to_end.upper()
        if not {*ends} <= {b"LEFT", b"RIGHT"}:
            raise ResponseError(SYNTAX)
        items = self._read(source, List)
        self._read(target, List)
        if not items:
            return None
        member: bytes = items.pop(0 if ends[0] == b"LEFT" else -1)
        self._shrunk(source, items)
        (self.lpush if ends[1] == b"LEFT" else self.rpush)(target, member)
        return member

    def lpos(self, key: bytes, member: bytes, *options: bytes) -> int | list[int] | None:
        items = self._read(key, List)
        given = {name.upper(): whole(value) for name, value in zip(options[::2], options[1::2], strict=True)}
        rank, count, most = given.pop(b"RANK", 1), given.pop(b"COUNT", None), given.pop(b"MAXLEN", 0)
        if given or not rank:
            raise NotImplementedError(f"The testing kit's server has no LPOS with {options}.")
        order = range(len(items)) if rank > 0 else range(len(items) - 1, -1, -1)
        found = [at for at in order[: most or None] if items[at] == member][abs(rank) - 1 :]
        if count is None:
            return found[0] if found else None
        return found[: count or None]

    def _popped(self, key: bytes, count: bytes | None, *, at_head: bool) -> bytes | list[bytes] | None:
        items = self._read(key, List)
        if not items:
            return None
        popped = [
            items.pop(0 if at_head else -1) for _ in range(min(1 if count is None else not_negative(count), len(items)))
        ]
        self._shrunk(key, items)
        return popped[0] if count is None else popped
