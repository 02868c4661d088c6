"""
`step` and `each` of one attempt: what has been done before is passed over, what is done now is recorded.

Steps are recorded, not replayed: a command may do anything between them. Only their names and their order must stay.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import orjson
from django.db import DEFAULT_DB_ALIAS, router
from django.db.models import QuerySet

from jobs import runtime, unrun
from jobs.errors import SerializationError, StepError
from jobs.record import arguments
from jobs.runtime import passage
from jobs.steps import walk
from jobs.steps.async_loop import AsyncLoop
from jobs.steps.chunks import Chunks, MovedError
from jobs.steps.handle import LARGEST, Keeper, Step
from jobs.steps.record import Current, Ended, Yielded

MOST = 1_000  # steps of a job
EACH = "each"  # the name of an `each` that was given none
LONGEST_NAME = 100  # characters


class Steps:
    """The steps of one attempt. Methods raise what `Mandate.step` and `Mandate.each` say."""

    def __init__(self, command: Any, keeper: Keeper) -> None:
        self._command, self._keeper, self._state = command, keeper, keeper.state
        keeper.max_runtime = command.max_runtime
        self._state.rename(command.steps_renamed)
        self._met: list[str] = []  # names of the steps that `call` has come to
        self._is_open = False  # whether the current step has begun in this attempt, and has not ended
        self._was_left = False  # whether `break` or an error has left it
        self._is_isolating = False
        self._outer = sys.exception()

    @passage
    def step(self, function: Callable[..., Any], name: str | None, start: Any, isolated: bool) -> Any:
        name = getattr(function, "__name__", "") if name is None else name
        if kind := unrun.kind_of(function):
            raise StepError(f"The step {name!r} is {kind}: a call would not run its body. Make it a plain `def`.")
        takes_step = _takes_an_argument(function)
        if self._enter(name, "step", isolated=isolated):
            at = len(self._met) - 1
            return self._keeper.result(at) if self._state.ended[at].has_result else None
        current = self._state.current
        assert current is not None  # noqa: S101
        if current.cursor is not None and not takes_step:
            raise StepError(
                f"The step {name!r} has a cursor from an earlier release, but its function takes no argument. Let it "
                "take one, or begin the job anew."
            )
        if current.cursor is None and start is not None:
            current.cursor = walk.encoded(start, name)
        try:
            result = function(Step(self._keeper, current)) if takes_step else function()
            unrun.checked(result, f"The step {name!r}")
        except BaseException:
            self._was_left = True
            raise
        self._end(None if result is None else _encoded(result, name))
        return result

    def loop(self, items: Any, name: str, by: str, total: int | None) -> Any:
        """`each` without a body: an iterator, or an async one."""
        if walk.is_asynchronous(items):
            over_async = walk.over_async(items, by)
            has_ended = self._open(name, over_async.kind, total=total)
            return AsyncLoop(self, self._keeper, over_async, None if has_ended else self._state.current)
        over = walk.over(items, by)
        if self._enter(name, over.kind, total=total):
            return iter(())
        return self._loop(over)

    def _loop(self, over: walk.Walk) -> Iterator[Any]:
        current, keeper = self._state.current, self._keeper
        assert current is not None  # noqa: S101
        cursor = arguments.decode(current.cursor)
        is_through = False
        try:
            for item, after in over.after(cursor):
                yield item
                self.advance(current, after)
                keeper.reach()
            is_through = True
        finally:
            self._was_left = not is_through
        self._end(None)

    def advance(self, current: Current, after: Any) -> None:
        """Note that the item of a loop is done, and the cursor after it."""
        current.cursor = walk.encoded(after, current.name)
        current.done += 1
        self._keeper.has_advanced = True
        self._report(current)

    def leave(self, current: Current) -> None:
        """Note that `break` or an error has left a loop, which has not ended."""
        if current is self._state.current:
            self._was_left = True

    def end(self, current: Current) -> None:
        """End a loop, without writing that."""
        if current is self._state.current:
            self._end(None, write=False)

    @passage
    def chunks(
        self,
        items: Any,
        body: Callable[[Any], object],
        name: str,
        by: str,
        total: int | None,
        size: int,
        alias: str | bool,
    ) -> None:
        """`each` with a body, in transactions of the database `alias`; True: the one that the items are written to."""
        if type(size) is not int or size < 1:
            raise StepError(f"chunk={size!r} is impossible. Give a whole number of items, 1 or more.")
        if self._command.is_async:
            raise StepError("`each` with atomic=True in an `async def call`: a transaction belongs to one thread.")
        over = walk.over(items, by)
        if alias is True:
            alias = router.db_for_write(items.model) if isinstance(items, QuerySet) else DEFAULT_DB_ALIAS
        if self._enter(name, over.kind, total=total):
            return
        current, keeper = self._state.current, self._keeper
        assert current is not None  # noqa: S101
        chunks = Chunks(over, body, size, str(alias), name)
        if keeper.job_id is not None:
            chunks.open(keeper.job_id, self._state.life)
        while True:
            try:
                number = chunks.next(keeper.passed)
            except MovedError:  # by another attempt: which of the two has the job is for the checkpoint to say
                keeper.write()
                chunks.read_again()
                continue
            if number:
                current.cursor, current.done = walk.encoded(chunks.after, name), chunks.done
                keeper.has_advanced = True
                self._report(current)
                keeper.reach()
            if number < size:
                break
        self._end(None)

    def _report(self, current: Current) -> None:
        if current.total is not None:
            text = "" if current.name == EACH else current.name  # a name that nobody has chosen says nothing
            self._command.report(current.done, current.total, text)

    # --- one after the other ---------------------------------------------------------------------

    def _enter(self, name: str, kind: str, *, total: int | None = None, isolated: bool = False) -> bool:
        """Come to a step, as `_open`, and write that it begins."""
        has_ended = self._open(name, kind, total=total, isolated=isolated)
        if not has_ended:
            self._keeper.reach(writes=True)
        return has_ended

    def _open(self, name: str, kind: str, *, total: int | None = None, isolated: bool = False) -> bool:
        """Come to a step. Returns whether it has ended before; if not, it is the current step from here on."""
        self._keeper.check()
        self._close_left(name)
        self._check(name, total)
        state, at = self._state, len(self._met)
        if at < len(state.ended):
            if state.ended[at].name != name:
                raise self._misplaced(name, state.ended[at].name)
            self._met.append(name)
            return True
        current = state.current
        if current is not None and current.name != name:
            raise self._misplaced(name, current.name)
        if current is not None and current.kind != kind and current.cursor is not None:
            raise StepError(
                f"The step {name!r} is at a cursor of the kind {current.kind!r}, and this release walks {kind!r}. "
                "Begin the job anew, or give the step another name."
            )
        self._is_isolating = self._is_isolating or isolated
        if self._is_isolating and self._keeper.has_advanced:
            raise Yielded(f"the step {name!r} begins an attempt of its own")
        self._met.append(name)
        if current is None:
            state.current = current = Current(name, kind, runtime.now())
        current.kind, current.total = kind, total
        self._is_open, self._was_left = True, False
        return False

    def _close_left(self, name: str) -> None:
        """
        End the current step if it was left by `break`, or by an error that `call` has caught: going on means that it is
        done. While the error is under way, as in a `finally`, that is not known.
        """
        if not (self._is_open and self._was_left):
            return
        error = sys.exception()
        if error is not None and error is not self._outer:
            raise StepError(
                f"The step {name!r} begins while an error leaves another one, {self._met[-1]!r}. Catch the error "
                "first, and begin the step after the `except`; what must always run needs no step."
            )
        self._end(None, write=False)

    def _check(self, name: Any, total: Any) -> None:
        if total is not None and not (type(total) is int and total >= 0):
            raise StepError(f"total={total!r} is impossible. Give the number of items, or None if it is not known.")
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= LONGEST_NAME or name[0] == "<":
            raise StepError(
                f"{name!r} is no name of a step. Give name=..., a text of {LONGEST_NAME} characters at most that stays "
                "the same in later releases."
            )
        if self._is_open:
            raise StepError(f"The step {name!r} begins inside another one, {self._met[-1]!r}. Steps cannot be nested.")
        if name in self._met:
            raise StepError(f"Two steps are called {name!r}. Give each a name of its own: name=...")
        if len(self._met) >= MOST:
            raise StepError(f"A job has {MOST:,} steps at most, and {name!r} is one more. Use `each` for many items.")

    def _misplaced(self, name: str, recorded: str) -> StepError:
        return StepError(
            f"`call` has come to the step {name!r}, but the job was at {recorded!r} there: a release has changed the "
            f"names or the order. If it is the same step, say so: steps_renamed = {{{recorded!r}: {name!r}}}. Else "
            "restore the order, or begin the job anew."
        )

    def _end(self, result: bytes | None, *, write: bool = True) -> None:
        state, current = self._state, self._state.current
        assert current is not None  # noqa: S101
        if result is not None:
            self._keeper.keep_result(len(state.ended), result)
        state.ended.append(Ended(current.name, current.began, runtime.now(), result is not None, current.done))
        state.current, self._is_open = None, False
        self._keeper.has_advanced = True
        if write:
            self._keeper.write()


def _takes_an_argument(function: Callable[..., Any]) -> bool:
    """Whether a step's function wants its `Step`: it has a positional parameter without a default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # one of C that says nothing
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(each.kind in positional and each.default is each.empty for each in parameters)


def _encoded(result: Any, name: str) -> bytes:
    try:
        data = orjson.dumps(arguments.encode(result))
    except SerializationError as error:
        raise StepError(
            f"The result of the step {name!r} cannot be recorded: it, or something in it, {error}. Return what an "
            "argument can be, or nothing."
        ) from None
    if len(data) > LARGEST:
        raise StepError(
            f"The result of the step {name!r} has {len(data):,} bytes, over {LARGEST:,}. Store it, and return its key."
        )
    return data
