"""What a loop goes over, and from where: items of an iterable by their number, rows of a queryset by their keys."""

from asyncio import _get_running_loop
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol, TypeVar

from asgiref.sync import sync_to_async
from django.core.exceptions import FieldDoesNotExist
from django.db.models import Q, QuerySet
from django.db.models.query import ModelIterable

from jobs.errors import SerializationError, StepError
from jobs.record import arguments

ROWS = 100  # rows that one query of a loop fetches


T_co = TypeVar("T_co", covariant=True)


class EitherIterable(Protocol[T_co]):
    """Items for `for` and for `async for`, as a queryset has them."""

    def __iter__(self) -> Iterator[T_co]: ...
    def __aiter__(self) -> AsyncIterator[T_co]: ...


class EitherIterator(Iterator[T_co], Protocol[T_co]):
    """What `each` returns for them: an async iterator where an event loop runs, an iterator elsewhere."""

    def __aiter__(self) -> AsyncIterator[T_co]: ...
    def __anext__(self) -> Awaitable[T_co]: ...


class Walk(Protocol):
    """The items of a loop."""

    kind: str  # what a cursor is, as in `Current.kind`

    def after(self, cursor: Any) -> Iterator[tuple[Any, Any]]:
        """Yield the items after a cursor (None: all), each with the cursor that stands for it."""

    def some(self, cursor: Any, number: int) -> Sequence[tuple[Any, Any]]:
        """Return the first of the items after a cursor, so many at most."""


class AsyncWalk(Protocol):
    """The items of an `async for`."""

    kind: str

    def after(self, cursor: Any) -> AsyncIterator[tuple[Any, Any]]:
        """Yield the items after a cursor (None: all), each with the cursor that stands for it."""


def over(items: Any, by: str) -> Walk:
    """
    Return the walk over a queryset, or over any other iterable. StepError for a queryset that cannot be walked by key,
    and for what is no iterable.
    """
    if isinstance(items, QuerySet):
        return Rows(items, by)
    if not isinstance(items, Iterable):
        raise StepError(f"`each` goes over a queryset or an iterable, not over {items!r}.")
    return Items(items)


def is_asynchronous(items: Any) -> bool:
    """Whether a loop over these items is an `async for`: a queryset's is, where an event loop runs."""
    return isinstance(items, AsyncIterable) and (not isinstance(items, Iterable) or _get_running_loop() is not None)


def over_async(items: AsyncIterable[Any], by: str) -> AsyncWalk:
    """Return the walk of an `async for` over a queryset, or over any other async iterable. Raises what `over` does."""
    return AsyncRows(items, by) if isinstance(items, QuerySet) else AsyncItems(items)


class Items:
    """Items by their number: after an interruption, as many are passed over as were done."""

    kind = "count"

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = items
        self._iterator: Iterator[Any] | None = None  # of `some`, where the items can only be taken in order
        self._taken = 0  # items taken from it

    def after(self, cursor: int | None) -> Iterator[tuple[Any, Any]]:
        done = cursor or 0
        if isinstance(self._items, Sequence):
            return ((self._items[at], at + 1) for at in range(done, len(self._items)))
        return ((item, at) for at, item in enumerate(islice(self._items, done, None), done + 1))

    def some(self, cursor: int | None, number: int) -> Sequence[tuple[Any, Any]]:
        done = cursor or 0
        if isinstance(self._items, Sequence):
            found = list(self._items[done : done + number])
        else:
            self._iterator = self._iterator or iter(self._items)
            found = list(islice(self._iterator, done - self._taken, done - self._taken + number))
            self._taken = done + len(found)
        return [(item, at) for at, item in enumerate(found, done + 1)]


class AsyncItems:
    """Async items by their number, as `Items`."""

    kind = Items.kind

    def __init__(self, items: AsyncIterable[Any]) -> None:
        self._items = items

    async def after(self, cursor: int | None) -> AsyncIterator[tuple[Any, Any]]:
        number = 0
        async for item in self._items:
            number += 1
            if number > (cursor or 0):
                yield item, number


class Rows:
    """
    Rows in the order of a key, by queries that begin after the last one: no OFFSET, so rows may come and go meanwhile.
    The key is a field, and the primary key where the field is not unique.
    """

    def __init__(self, rows: QuerySet[Any], by: str) -> None:
        self.kind = f"by {by}"
        query = rows.query
        if query.is_sliced or query.combinator or rows._iterable_class is not ModelIterable:
            what = "a slice" if query.is_sliced else "a union" if query.combinator else "values()"
            raise StepError(f"`each` cannot walk {what} of {rows.model.__name__} by key. Give a queryset of records.")
        names = _names(rows, by)
        given = tuple(query.extra_order_by or query.order_by)
        if not query.standard_ordering or (given and given not in ((by,), tuple(names))):
            how = "reversed" if not query.standard_ordering else f"ordered by {', '.join(map(str, given))}"
            raise StepError(
                f"`each` walks {rows.model.__name__} in the order of {by!r}, but the queryset is {how}. Give the field "
                "as by=..., or leave order_by and reverse out."
            )
        meta = rows.model._meta
        self._rows, self._names = rows.order_by(*names), names
        self._attributes = ["pk" if name == "pk" else meta.get_field(name).attname for name in names]

    def after(self, cursor: Any) -> Iterator[tuple[Any, Any]]:
        while some := self.some(cursor, ROWS):
            yield from some
            cursor = some[-1][1]

    def some(self, cursor: Any, number: int) -> Sequence[tuple[Any, Any]]:
        rows = self._rows if cursor is None else self._rows.filter(self._later(cursor))
        return [(row, self._key(row)) for row in rows[:number]]

    def _later(self, cursor: Any) -> Q:
        if len(self._names) == 1:
            return Q(**{f"{self._names[0]}__gt": cursor})
        by, (value, key) = self._names[0], cursor
        return Q(**{f"{by}__gt": value}) | Q(**{by: value, "pk__gt": key})

    def _key(self, row: Any) -> Any:
        key = [getattr(row, name) for name in self._attributes]
        return key[0] if len(key) == 1 else key


class AsyncRows(Rows):
    """Rows whose queries run in another thread."""

    async def after(self, cursor: Any) -> AsyncIterator[tuple[Any, Any]]:  # type: ignore[override]
        while some := await sync_to_async(self.some)(cursor, ROWS):
            for each in some:
                yield each
            cursor = some[-1][1]


def _names(rows: QuerySet[Any], by: str) -> list[str]:
    """Return the fields that make the key."""
    if by == "pk":
        return ["pk"]
    try:
        found: Any = rows.model._meta.get_field(by)
    except FieldDoesNotExist as error:
        raise StepError(f"{rows.model.__name__} has no field {by!r} that `each` could go by: {error}") from error
    if not found.concrete or found.many_to_many or found.null:
        raise StepError(
            f"`each` cannot go by {rows.model.__name__}.{by}: it may be null, or has no column. Its rows would be left "
            "out. Go by the primary key."
        )
    return [by] if found.unique else [by, "pk"]


def encoded(cursor: Any, step: str) -> Any:
    """Return the cursor of a step in the form of an argument. StepError for one that cannot be recorded."""
    try:
        return arguments.encode(cursor)
    except SerializationError as error:
        raise StepError(
            f"The cursor of the step {step!r} cannot be recorded: it, or something in it, {error}."
        ) from None
