"""The commands for sorted sets of the server in memory."""

from typing import Any

from redis.exceptions import ResponseError

from jobs.testing.keyspace import SYNTAX, Keys, SortedSet, not_negative, number, span, whole

_Pairs = list[tuple[bytes, float]]  # members and their scores


class SortedSets(Keys):
    def zadd(self, key: bytes, *words: bytes) -> int | bytes | None:
        flags, words = _flags(words)
        if unknown := flags - {b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR"}:
            raise NotImplementedError(f"The testing kit's server has no ZADD with {unknown}.")
        if not words or len(words) % 2:
            raise ResponseError(SYNTAX)
        if {b"NX", b"XX"} <= flags:
            raise ResponseError("XX and NX options at the same time are not compatible")
        if len(flags & {b"NX", b"GT", b"LT"}) > 1:
            raise ResponseError("GT, LT, and/or NX options at the same time are not compatible")
        adds = b"INCR" in flags
        if adds and len(words) > 2:
            raise ResponseError("INCR option supports a single increment-element pair")
        pairs = [(member, number(score)) for score, member in zip(words[::2], words[1::2], strict=True)]
        known, new, changed, score = self._read(key, SortedSet), 0, 0, None
        for member, score in pairs:
            before = known.get(member)
            if (before is None and b"XX" in flags) or (before is not None and b"NX" in flags):
                score = None
                continue
            if before is not None:
                score = before + score if adds else score
                if (b"GT" in flags and score <= before) or (b"LT" in flags and score >= before):
                    score = None
                    continue
            known[member] = score
            new += before is None
            changed += before != score
        if known:
            self._values[key] = known
        if adds:
            return None if score is None else shown(score)
        return changed if b"CH" in flags else new

    def zincrby(self, key: bytes, increment: bytes, member: bytes) -> Any:
        return self.zadd(key, b"INCR", increment, member)

    def zrem(self, key: bytes, *members: bytes) -> int:
        return self._taken(key, SortedSet, members)

    def zcard(self, key: bytes) -> int:
        return len(self._read(key, SortedSet))

    def zscore(self, key: bytes, member: bytes) -> bytes | None:
        score = self._read(key, SortedSet).get(member)
        return None if score is None else shown(score)

    def zcount(self, key: bytes, least: bytes, most: bytes) -> int:
        return len(self._between(key, least, most))

    def zmscore(self, key: bytes, *members: bytes) -> list[bytes | None]:
        return [self.zscore(key, member) for member in members]

    def zrank(self, key: bytes, member: bytes) -> int | None:
        members = [name for name, _ in self._in_order(key)]
        return members.index(member) if member in members else None

    def zrange(self, key: bytes, first: bytes, last: bytes, *options: bytes) -> list[bytes]:
        names = [option.upper() for option in options]
        is_reversed = b"REV" in names
        options = tuple(option for option, name in zip(options, names, strict=True) if name not in (b"REV", b"BYSCORE"))
        if b"BYSCORE" in names:
            return (self.zrevrangebyscore if is_reversed else self.zrangebyscore)(key, first, last, *options)
        if b"LIMIT" in names:
            raise ResponseError("syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX")
        pairs = self._in_order(key)[:: -1 if is_reversed else 1]
        return _answered(pairs[span(len(pairs), first, last)], options)

    def zrevrange(self, key: bytes, first: bytes, last: bytes, *options: bytes) -> list[bytes]:
        return self.zrange(key, first, last, b"REV", *options)

    def zrangebyscore(self, key: bytes, least: bytes, most: bytes, *options: bytes) -> list[bytes]:
        return _answered(self._between(key, least, most), options)

    def zrevrangebyscore(self, key: bytes, most: bytes, least: bytes, *options: bytes) -> list[bytes]:
        return _answered(self._between(key, least, most)[::-1], options)

    def zpopmin(self, key: bytes, count: bytes = b"1") -> list[bytes]:
        return self._popped_by_score(key, self._in_order(key)[: not_negative(count)])

    def zpopmax(self, key: bytes, count: bytes = b"1") -> list[bytes]:
        return self._popped_by_score(key, self._in_order(key)[::-1][: not_negative(count)])

    def zremrangebyscore(self, key: bytes, least: bytes, most: bytes) -> int:
        return self._taken(key, SortedSet, [member for member, _ in self._between(key, least, most)])

    def zremrangebyrank(self, key: bytes, first: bytes, last: bytes) -> int:
        pairs = self._in_order(key)
        return self._taken(key, SortedSet, [member for member, _ in pairs[span(len(pairs), first, last)]])

    def _popped_by_score(self, key: bytes, pairs: _Pairs) -> list[bytes]:
        self._taken(key, SortedSet, [member for member, _ in pairs])
        return _with_scores(pairs)

    def _in_order(self, key: bytes) -> _Pairs:
        """Return the members with their scores, in order."""
        return sorted(self._read(key, SortedSet).items(), key=lambda pair: (pair[1], pair[0]))

    def _between(self, key: bytes, least: bytes, most: bytes) -> _Pairs:
        """Return the members with a score between those bounds, in order, with their scores."""
        low, high = (number(bound.removeprefix(b"("), "min or max is not a float") for bound in (least, most))
        return [
            (member, score)
            for member, score in self._in_order(key)
            if low <= score <= high
            and not (score == low and least.startswith(b"("))
            and not (score == high and most.startswith(b"("))
        ]


def shown(score: float) -> bytes:
    """Return a score as a server writes it."""
    return b"%d" % score if score.is_integer() else repr(score).encode()


def _flags(words: tuple[bytes, ...]) -> tuple[set[bytes], tuple[bytes, ...]]:
    """Return the options before the first score, and the words from there."""
    at = 0
    while at < len(words) and words[at].isalpha() and words[at].lower() not in (b"inf", b"infinity", b"nan"):
        if len(words) - at == 2:
            break  # a score that is no number
        at += 1
    return {word.upper() for word in words[:at]}, words[at:]


def _answered(pairs: _Pairs, options: tuple[bytes, ...]) -> list[bytes]:
    """Return the members, with the options that select some of them or add their scores."""
    left, has_scores = list(options), False
    while left:
        name = left.pop(0).upper()
        if name == b"LIMIT" and len(left) > 1:
            offset, count = whole(left.pop(0)), whole(left.pop(0))
            pairs = pairs[offset:][: None if count < 0 else count] if offset >= 0 else []
        elif name == b"WITHSCORES":
            has_scores = True
        else:
            raise NotImplementedError(f"The testing kit's server has no such range of a sorted set: {options}.")
    return _with_scores(pairs) if has_scores else [member for member, _ in pairs]


def _with_scores(pairs: _Pairs) -> list[bytes]:
    return [word for member, score in pairs for word in (member, shown(score))]
