"""
Does for a process that ends by `os._exit` what Python does at its end: waits for threads, and runs `atexit` callbacks.
Within time limits, because a thread that never ends must not keep the process.
"""

import atexit
import sys
import threading
import time
import weakref
from collections.abc import Callable

from jobs.safe_logging import safe_logger

logger = safe_logger("jobs.worker")

THREADS = 3.0  # seconds that a job's threads, and those of executors, have to end
HOOKS = 7.0  # seconds that the atexit callbacks have after that


def forget_inherited() -> None:
    """
    Disown, in a child after the fork, the finalizers of the parent's objects, such as its temporary folders, and the
    processes that it has started. Callbacks of `atexit` run in both, as under every forking server.
    """
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        finalizer.atexit = False
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        process._children.clear()


def run_exit_hooks(give_up: Callable[[], object]) -> None:
    """
    Do what the interpreter does when a process ends, in its order: run the hooks of `threading` (which join the threads
    of executors), join non-daemon threads, run `atexit` callbacks. If that takes longer than THREADS and HOOKS seconds,
    `give_up()` is called from another thread, and must end the process. Raises nothing.
    """
    done = threading.Event()

    def watch() -> None:
        if not done.wait(THREADS + HOOKS):
            logger.error("the atexit callbacks have not ended after %g s; the process ends without them", HOOKS)
            give_up()

    threading.Thread(target=watch, name="jobs-exit", daemon=True).start()
    _wait_for_threads()
    atexit._run_exitfuncs()  # prints a callback's error, and goes on
    done.set()


def _wait_for_threads() -> None:
    deadline = time.monotonic() + THREADS
    hooks = threading.Thread(target=_run_threading_hooks, name="jobs-exit-threads", daemon=True)
    hooks.start()
    ours = {threading.current_thread(), threading.main_thread()}
    for thread in [hooks, *threading.enumerate()]:
        if thread is hooks or (not thread.daemon and thread not in ours):
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                logger.warning("thread %s has not ended after %g s; the process does not wait", thread.name, THREADS)


def _run_threading_hooks() -> None:
    for hook in reversed(getattr(threading, "_threading_atexits", [])):
        hook()
