"""
Raises an interrupt in a thread, at its next safe point.

The thread itself checks, at each line of the job's own functions, whether it is at a safe point, and raises there.
Another thread switches these checks on when an interrupt is wanted: from Python 3.12 on by sys.monitoring, for the
functions that the job is in; on 3.11 by a trace function. While no interrupt is wanted, nothing is switched on.
"""

import ctypes
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, NamedTuple, Protocol

from jobs.attempts.safe_points import is_own, is_safe, layout, own_frames

TOOLS = (4, 3, 5, 2, 1, 0)  # ids for sys.monitoring; first those that no kind of tool has by convention


class Pending(Protocol):
    """The part of `jobs.attempts.interrupt.Interrupt` that this module reads; it cannot import that module."""

    kind: Any  # the class of the exception to raise
    sent_at: float  # monotonic seconds

    @property
    def is_due(self) -> bool:
        """Whether it may be raised now, for the first time or again."""


class Wanted(NamedTuple):
    """An interrupt that waits for a safe point in a thread, inside `call`."""

    call: Callable[..., Any]
    interrupt: Pending


_wanted: dict[int, Wanted] = {}  # by the thread


def thread_state() -> int:
    """Return the address of the calling thread's state in the interpreter, for `watch`; 0 if `watch` needs none."""
    return _watcher.thread_state()


def watch(thread: int, state: int, wanted: Wanted, own: list[FrameType]) -> None:
    """
    Have the interrupt raised in a thread at its next safe point. `state` is what `thread_state` returned in it; `own`
    are the frames of the job's own code that it is in.
    """
    _wanted[thread] = wanted
    _watcher.watch(thread, state, own)


def let_go(thread: int) -> None:
    """Stop raising interrupts in a thread. Call it in that thread, once the call has ended."""
    if _wanted.pop(thread, None) is not None:
        _watcher.let_go(thread)


def raise_in_wait() -> None:
    """Raise the interrupt that is due in the calling thread, which is in a wait of the engine's, and holds nothing."""
    wanted = _wanted.get(threading.get_ident())
    if wanted is not None and wanted.interrupt.is_due:
        wanted.interrupt.sent_at = time.monotonic()
        raise wanted.interrupt.kind


def trim(error: BaseException) -> None:
    """Cut this module's frames from the end of an interrupt's traceback."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        if trace.tb_next.tb_frame.f_globals is globals():
            trace.tb_next = None
        else:
            trace = trace.tb_next


def _is_time(frame: FrameType) -> Pending | None:
    """Return the interrupt to raise in the calling thread, now in `frame`; None if none is due or it is unsafe."""
    wanted = _wanted.get(threading.get_ident())
    if wanted is None or not wanted.interrupt.is_due:
        return None
    own, is_whole = own_frames(frame, wanted.call)
    if not is_whole or not is_safe(own):
        return None
    wanted.interrupt.sent_at = time.monotonic()
    return wanted.interrupt


if sys.version_info >= (3, 12):
    from sys import monitoring

    class _Watcher:
        """Line and instruction events, switched on for the functions of jobs whose interrupt is wanted."""

        def __init__(self) -> None:
            self._tool = next(tool for tool in TOOLS if monitoring.get_tool(tool) is None)
            monitoring.use_tool_id(self._tool, "jobs")
            self._watched: dict[int, set[CodeType]] = {}  # by the thread
            self._users: Counter[CodeType] = Counter()
            self._lock = threading.Lock()
            monitoring.register_callback(self._tool, monitoring.events.LINE, self._at_line)
            # Not JUMP: what its callback raises leaves the frame past all of its handlers (seen on 3.13.0).
            monitoring.register_callback(self._tool, monitoring.events.INSTRUCTION, self._at_instruction)

        def thread_state(self) -> int:
            return 0

        def watch(self, thread: int, state: int, own: list[FrameType]) -> None:
            with self._lock:
                watched = self._watched.setdefault(thread, set())
                for code in {frame.f_code for frame in own} - watched:
                    watched.add(code)
                    self._users[code] += 1
                    if self._users[code] == 1:
                        self._switch(code, monitoring.events.LINE | monitoring.events.INSTRUCTION)

        def let_go(self, thread: int) -> None:
            with self._lock:
                for code in self._watched.pop(thread, ()):
                    self._users[code] -= 1
                    if not self._users[code]:
                        del self._users[code]
                        self._switch(code, 0)

        def _switch(self, code: CodeType, events: int) -> None:
            monitoring.set_local_events(self._tool, code, events)

        def _at_line(self, code: CodeType, line: int) -> None:
            if interrupt := _is_time(sys._getframe(1)):
                raise interrupt.kind

        def _at_instruction(self, code: CodeType, offset: int) -> None:
            if (
                threading.get_ident() in _wanted
                and offset in layout(code).turns
                and (interrupt := _is_time(sys._getframe(1)))
            ):
                raise interrupt.kind

else:

    class _Watcher:
        """
        A trace function in the thread. `sys.settrace` sets only that of the calling thread. So CPython is asked for a
        callback at the other thread's next event (`_PyEval_SetTrace` takes another thread's state), which then sets it.
        """

        def __init__(self) -> None:
            event = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.py_object, ctypes.c_int, ctypes.c_void_p)
            self._set_trace = ctypes.pythonapi._PyEval_SetTrace
            self._set_trace.argtypes = (ctypes.c_void_p, event, ctypes.py_object)
            self._first_event = event(self._at_first_event)
            self._get_state = ctypes.pythonapi.PyThreadState_Get
            self._get_state.restype = ctypes.c_void_p
            self._traced: set[int] = set()

        def thread_state(self) -> int:
            return int(self._get_state())

        def watch(self, thread: int, state: int, own: list[FrameType]) -> None:
            if thread not in self._traced:
                self._traced.add(thread)
                self._set_trace(state, self._first_event, None)

        def let_go(self, thread: int) -> None:
            self._traced.discard(thread)
            sys.settrace(threading.gettrace())  # that of a debugger, or of a coverage tool

        def _at_first_event(self, _argument: object, frame: FrameType, _what: int, _about: object) -> int:
            sys.settrace(self._at_call)
            outer: FrameType | None = frame
            while outer is not None:
                if is_own(outer):
                    outer.f_trace = self._at_line
                outer = outer.f_back
            return 0

        def _at_call(self, frame: FrameType, event: str, about: object) -> Any:
            return self._at_line if is_own(frame) else None

        def _at_line(self, frame: FrameType, event: str, about: object) -> Any:
            if event == "line" and (interrupt := _is_time(frame)):
                self._traced.discard(threading.get_ident())  # an error in a trace function ends the tracing
                raise interrupt.kind
            return self._at_line


_watcher = _Watcher()
