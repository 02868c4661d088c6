"""A child's whole life, on its side of the fork."""

import contextlib
import logging
import os
import socket
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from jobs.worker import ending
from jobs.worker.child import Child
from jobs.worker.process import Process
from jobs.worker.settings import WorkerSettings


def live(
    settings: WorkerSettings,
    process: Process,
    control: socket.socket,
    *,
    blocks: bool,
    is_quiet: bool,
    forked: Callable[[], object],
) -> NoReturn:
    """
    Run the child, and exit. A proper end is marked on the board right before the exit, because no exit code can be
    trusted: a job may call `os._exit` with any. An exception is sent to the parent as text, and sets no mark.
    """
    follows: int | None = None

    def leave() -> NoReturn:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # its reader is gone, or it is closed
                stream.flush()
        if follows is not None:
            process.board.mark_end(follows)
        os._exit(1 if follows is None else 0)

    try:
        forked()
        ending.forget_inherited()
        child = Child(settings, process.name, process.board, control, blocks=blocks, is_quiet=is_quiet)
        follows = child.run()
    except BaseException as error:
        traceback.print_exc()
        with contextlib.suppress(OSError):  # the parent is gone
            control.send("".join(traceback.format_exception_only(error)).encode())
    try:
        ending.run_exit_hooks(give_up=leave)
        logging.shutdown()
    finally:
        leave()
