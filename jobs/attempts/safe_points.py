"""
Safe points: where an interrupt may be raised in a thread that runs a job.

An exception from outside may arrive between any two bytecodes. In code that does not expect it, it leaves a lock held,
a module half imported, a database connection inside a transaction. So an interrupt is raised only in the job's own
code, at a point where the job holds nothing that only the next line would release:

1. the innermost frame, and every frame between it and `call`, belongs to a module of the project or of an installed
   app. A library's frame between the two may hold anything;
2. none of these frames is in a `finally`, in the first line of a `with`, in `__enter__`, `__exit__` or `__del__`;
3. the innermost frame is not about to enter a `try`, which would release what it has just acquired. Nor is it about
   to return to a frame of the job's that then enters a `try` or a `with`.

If a thread is not at a safe point, it is checked again later.
"""

import dis
import sysconfig
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from contextlib import ContextDecorator
from functools import lru_cache, partial
from inspect import unwrap
from types import CodeType, FrameType
from typing import Any, NamedTuple

from django.apps import apps

from jobs import runtime

NOT_OWN = {"django", "django_rq", "django_tasks", "jobs", "redis", "rq", "rq_scheduler"}  # though they may be apps
OWN_PARTS = ("jobs.bulk", "jobs.commands.")  # the engine's own commands
SETS_UP = {"__enter__", "__exit__", "__aenter__", "__aexit__", "__del__"}

_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_ATOMIC = ContextDecorator()(lambda: None).__code__  # @transaction.atomic


def own_frames(frame: FrameType | None, call: Callable[..., Any]) -> tuple[list[FrameType], bool]:
    """
    Return the frames of the job's own code, from `call` inward up to the first frame of other code, and whether they
    reach the innermost frame, which is `frame`. Empty and False in a thread that runs no job.
    """
    stack: list[FrameType] = []
    while frame is not None and frame.f_code not in runtime.starts:
        stack.append(frame)
        frame = frame.f_back
    if frame is None:
        return [], False
    stack.reverse()
    while isinstance(call, partial):
        call = call.func
    code = getattr(unwrap(call), "__code__", None)
    first = next((at for at, each in enumerate(stack) if each.f_code is code), 0)  # frames of its decorators lie before
    own: list[FrameType] = []
    for each in stack[first:]:
        if not (each.f_code is _ATOMIC or each.f_code in runtime.passages or is_own(each)):
            return own, False
        own.append(each)
    return own, bool(own) and is_own(own[-1])


def is_safe(own: list[FrameType]) -> bool:
    """Whether the innermost of these frames, all of the job's own code, is at a safe point."""
    for frame in own:
        here = layout(frame.f_code).at(frame.f_lasti)
        is_with = frame is not own[-1] and here.operation.startswith("BEFORE_")  # it calls an `__enter__`
        if frame.f_code.co_name in SETS_UP or is_with or here.offset in layout(frame.f_code).cleaning:
            return False
    for frame in reversed(own):  # a function may return what it has acquired to a caller that releases it in a `try`
        enters, returns = layout(frame.f_code).look_ahead(frame.f_lasti, is_caller=frame is not own[-1])
        if enters or not returns:
            return not enters
    return True


def is_own(frame: FrameType) -> bool:
    """Whether a frame runs code of the project or of an installed app."""
    name = frame.f_globals.get("__name__", "")
    is_own_module = _own.get(name)
    if is_own_module is None:
        is_own_module = _own[name] = _is_own(name, frame.f_code.co_filename)
    return is_own_module and not frame.f_code.co_filename.startswith("<")


_own: dict[str, bool] = {}  # by the name of the module


def _is_own(module: str, file: str) -> bool:
    if module.partition(".")[0] in NOT_OWN:
        return module.startswith(OWN_PARTS)
    if apps.get_containing_app_config(module) is not None:
        return True
    return not (file.startswith(_LIBRARIES) or "/site-packages/" in file or "/dist-packages/" in file)


# --- the compiled code -------------------------------------------------------------------------


class Step(NamedTuple):
    """One instruction: its offset and those of the instructions that may follow it, in bytes."""

    offset: int
    operation: str
    line: int | None
    next: tuple[int, ...]
    tries: frozenset[int]  # the handlers of the `try` and `with` blocks that it lies in


class Layout:
    """
    The parts of a function's code that decide about safe points. `cleaning` has the offsets of the bodies of `finally`,
    and of the ends of `with` blocks.
    """

    def __init__(self, code: CodeType) -> None:
        bytecode = dis.Bytecode(code)
        instructions = list(bytecode)
        operations = {each.offset: each.opname for each in instructions}
        tries: list[tuple[int, int, int]] = []
        handlers: defaultdict[int, list[tuple[int, int]]] = defaultdict(
            list
        )  # by the clean-up that ends each if it raises
        for start, end, target, *_ in bytecode.exception_entries:  # type: ignore[attr-defined]
            if operations[target] == "PUSH_EXC_INFO":
                tries.append((start, end, target))
            elif operations[target] == "COPY":
                handlers[target].append((start, end))
        self.steps: dict[int, Step] = {}
        for each, following in zip(instructions, [*instructions[1:], None], strict=True):
            leads_to = [] if following is None or each.opname in _NO_NEXT else [following.offset]
            if each.opcode in _JUMPS:
                leads_to.append(each.argval)
            self.steps[each.offset] = Step(
                each.offset,
                each.opname,
                each.positions.lineno if each.positions else None,
                tuple(leads_to),
                frozenset(target for start, end, target in tries if start <= each.offset < end),
            )
        self._offsets = sorted(self.steps)
        # The ends of loops and the start of the function: in code on a single line, no new line begins there.
        self.turns = {step.offset for step in self.steps.values() if step.operation == "JUMP_BACKWARD"}
        self.turns |= {after for step in self.steps.values() if step.operation == "RESUME" for after in step.next}
        self.cleaning = self._cleaning(tries, list(handlers.values()))

    def _cleaning(self, tries: list[tuple[int, int, int]], handlers: list[list[tuple[int, int]]]) -> set[int]:
        """
        The compiler writes a `finally`, and the end of a `with`, twice, with the same line numbers: into the handler of
        errors, and into the path without an error. It writes the body of an `except` once.
        """
        cleaning: set[int] = set()
        lines: set[int | None] = set()
        handled = {min(start for start, _ in ranges): max(end for _, end in ranges) for ranges in handlers}
        for begin, end in handled.items():
            first = self.at(self.at(begin).next[0])
            if first.operation == "WITH_EXCEPT_START":
                entered = min((start for start, _, target in tries if target == begin), default=0)
                cleaning |= {
                    step.offset for step in self.steps.values() if step.line == first.line and step.offset >= entered
                }
            elif first.operation != "POP_TOP" and not any(
                self.steps[offset].operation.startswith("CHECK_E")  # an `except`
                for start, stop in next(ranges for ranges in handlers if min(ranges)[0] == begin)
                for offset in self._offsets
                if start <= offset < stop
            ):
                lines |= self._lines(begin, end, tries, handled)
        return cleaning | {step.offset for step in self.steps.values() if step.line in lines - {None}}

    def _lines(
        self, begin: int, end: int, tries: list[tuple[int, int, int]], handled: dict[int, int]
    ) -> set[int | None]:
        """Return the lines of a handler, and of the handlers of `try` blocks inside it."""
        lines = {step.line for step in self.steps.values() if begin <= step.offset < end}
        for start, _, target in tries:
            if begin <= start < end and target != begin:
                lines |= self._lines(target, handled.get(target, target), tries, handled)
        return lines

    def at(self, offset: int) -> Step:
        """Return the instruction at an offset."""
        at = bisect_left(self._offsets, offset + 1) - 1
        return self.steps[self._offsets[at]]

    def look_ahead(self, offset: int, *, is_caller: bool) -> tuple[bool, bool]:
        """
        Return whether the code enters another `try` next, and whether the function may return next, each without a call
        in between. In a caller, the instruction is the call, and a `with` counts as a `try`.
        """
        here = self.at(offset)
        ahead = list(here.next if is_caller else (here.offset,))
        seen: set[int] = set()
        returns = False
        while ahead:
            step = self.steps.get(ahead.pop())
            if step is None or step.offset in seen:
                continue
            seen.add(step.offset)
            if not step.tries <= here.tries or (is_caller and step.operation.startswith("BEFORE_")):
                return True, False
            returns = returns or step.operation.startswith("RETURN_")
            if not step.operation.startswith(_ENDS):
                ahead += step.next
        return False, returns


_JUMPS = {*dis.hasjrel, *dis.hasjabs}
_NO_NEXT = {"JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "RETURN_VALUE", "RETURN_CONST"}
_NO_NEXT |= {"RAISE_VARARGS", "RERAISE"}
# Instructions at which other code may run, so that nothing acquired before still needs a `try`, or the function ends.
_ENDS: tuple[str, ...] = (
    "CALL",
    "PRECALL",
    "JUMP_BACKWARD",
    "FOR_ITER",
    "SEND",
    "YIELD",
    "BEFORE_",
    "LOAD_SPECIAL",
    "IMPORT",
)
_ENDS += ("RETURN", "RAISE", "RERAISE")

layout = lru_cache(1_000)(Layout)
