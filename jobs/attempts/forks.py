"""
Processes that a job forks: they must not act as workers. `os.fork` in a job copies one thread of a worker with all that
it holds; what the copy returns or raises must end the copy, and must never be taken for the end of the job.

`multiprocessing` and `concurrent.futures` fork too. Their processes end by themselves, and need the same clean-up.
"""

import os
import signal
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, NoReturn

from django.db import connections
from django.db.backends.signals import connection_created

_is_fork = False  # whether this process was forked by a job
_opened: dict[int, "weakref.ref[Any]"] = {}  # database connections of all threads, by their id()
_kept: dict[int, list[Any]] = {}  # by the thread that forks: objects that the fork must not destroy
_buried: list[Any] = []  # in a fork: objects that it, and its own forks, must hold for as long as they live
_masks: dict[int, set[Any]] = {}  # by the thread that forks: the signals that it had blocked


def watch(let_go: Callable[[], object], signals: Collection[int] = ()) -> None:
    """
    Prepare a worker process for forks, before it runs jobs: from here on, a process that it forks knows that it is a
    fork. `let_go()` is called in the fork, to release what belongs to the worker. It must take no locks, whose holders
    are gone in the fork. `signals` are blocked until then, because they would still go to the worker's handlers.
    """
    connection_created.connect(_note, weak=False)
    os.register_at_fork(
        before=lambda: _prepare(signals), after_in_parent=_forget, after_in_child=lambda: _begin(let_go, signals)
    )


def leave_if_forked() -> None:
    """
    End this process if a job has forked it: with the code of a SystemExit, 1 for another exception that is being
    handled, 0 for none. Nothing of the worker's runs in it after that, neither hook nor log line nor commit.

    Call it wherever the job's own code has returned or raised, before anything else happens, and before any lock is
    taken. In a worker it costs the check of a global.
    """
    if _is_fork:
        _leave(sys.exc_info()[1])


def _leave(error: BaseException | None) -> NoReturn:
    code = 0
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        code = error.code or 0
    elif error is not None:
        code = 1
        lines = [f"{error.code}\n"] if isinstance(error, SystemExit) else traceback.format_exception(error)
        with suppress(OSError):  # not by sys.stderr, whose lock a thread may have held
            os.write(2, "".join(lines).encode(errors="backslashreplace"))
    os._exit(code & 0xFF)


# --- around a fork -------------------------------------------------------------------------------


def _note(sender: object, connection: Any, **_: object) -> None:
    key = id(connection)
    _opened[key] = weakref.ref(connection, lambda _: _opened.pop(key, None))


def _prepare(signals: Collection[int]) -> None:
    """
    Block the signals, and hold the database connections: those of other threads go with their threads in the fork, and
    closing one there may end the session that it shares with the worker's.
    """
    _masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    wrappers = [wrapper for each in list(_opened.values()) if (wrapper := each()) is not None]
    _kept[threading.get_ident()] = [(wrapper, wrapper.connection) for wrapper in wrappers]


def _forget() -> None:
    _kept.pop(threading.get_ident(), None)
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop(threading.get_ident()))


def _begin(let_go: Callable[[], object], signals: Collection[int]) -> None:
    """Run in the fork, in its only thread. An error in one step must not prevent the next."""
    global _is_fork
    _is_fork = True
    for each in (let_go, _drop_connections):
        try:
            each()
        except Exception:
            os.write(2, traceback.format_exc().encode(errors="backslashreplace"))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


def _drop_connections() -> None:
    """Make the fork open its own connections, and pools, because the threads that fill the worker's pools are gone."""
    for alias in connections.settings:
        with suppress(AttributeError):  # never opened in this thread
            del connections[alias]
    for held in _kept.values():
        _buried.append(held)
        for wrapper, _ in held:
            pools = getattr(type(wrapper), "_connection_pools", None)
            if pools:
                _buried.append(dict(pools))
                pools.clear()
