"""
`async for item in self.each(items)`: a loop over async items, as one step.

What asks the server runs in another thread, because the event loop serves other jobs, too.
"""

from collections.abc import AsyncIterator
from typing import Any, Protocol, Self

from asgiref.sync import sync_to_async

from jobs.errors import StepError
from jobs.record import arguments
from jobs.steps.handle import Keeper
from jobs.steps.record import Current
from jobs.steps.walk import AsyncWalk


class Around(Protocol):
    """The steps of the attempt, one of which is the loop."""

    def advance(self, current: Current, after: Any) -> None: ...
    def leave(self, current: Current) -> None: ...
    def end(self, current: Current) -> None: ...


class AsyncLoop:
    """
    The iterator of one `async for`. No async generator: that one would learn of a `break` only when the event loop
    closes it, and the next step may have begun by then.
    """

    def __init__(self, steps: Around, keeper: Keeper, walk: AsyncWalk, current: Current | None) -> None:
        """`current`: the step; None if it has ended in an earlier attempt."""
        self._steps, self._keeper, self._walk, self._current = steps, keeper, walk, current
        self._items: AsyncIterator[tuple[Any, Any]] | None = None  # None until the first item is asked for
        self._after: Any = None  # the cursor after the item in hand

    def __iter__(self) -> Self:
        raise StepError("These items are asynchronous: `async for item in self.each(items)`, in an `async def`.")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._current is None:
            raise StopAsyncIteration
        try:
            found = await self._next(self._current)
        except BaseException:
            self._steps.leave(self._current)
            raise
        if found is None:
            self._steps.end(self._current)
            self._current = None
            await sync_to_async(self._keeper.write)()
            raise StopAsyncIteration
        item, self._after = found
        return item

    async def _next(self, current: Current) -> tuple[Any, Any] | None:
        keeper = self._keeper
        if self._items is None:
            await sync_to_async(keeper.reach)(writes=True)
            self._items = self._walk.after(arguments.decode(current.cursor))
        else:
            self._steps.advance(current, self._after)
            if keeper.is_due:
                await sync_to_async(keeper.reach)()
            else:
                keeper.reach()
        return await anext(self._items, None)

    def __del__(self) -> None:
        if self._current is not None and self._items is not None:  # left by `break`, or by an error of the body
            self._steps.leave(self._current)
