"""Receives a child's orders: signals, and lines from its parent on the control socket."""

import contextlib
import json
import os
import select
import signal
import socket
from collections.abc import Callable

from jobs.worker import signals


class Orders:
    """A child's main thread waits here; signals, the parent, and `wake` end the wait."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._parent_is_gone = False
        self._unfinished = b""  # of what the parent says, a line of JSON an order
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._waker, False)
        self._received: list[int] = []  # signals

    def listen(self, show_stacks: Callable[[], object]) -> None:
        """
        Install the handlers. They only record the signal, because the main thread may hold a lock that obeying takes.
        The handler of SIGTTIN also calls `show_stacks()`, whatever the main thread waits for.
        """

        def record(number: int, _frame: object = None) -> None:
            self._received.append(number)

        def record_and_show(number: int, _frame: object) -> None:
            show_stacks()
            record(number)

        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signals.handle(signal.SIGCHLD, signal.SIG_DFL)
        signals.handle(signal.SIGINT, signals.do_nothing)  # Ctrl-C reaches the whole group; the parent passes it on
        signals.handle(signal.SIGTERM, record)
        signals.handle(signal.SIGTSTP, record)
        signals.handle(signal.SIGTTIN, record_and_show)
        signals.handle_meaningless(record)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.PASSED_ON)

    def wait(self, seconds: float) -> tuple[list[int], bool]:
        """Wait at most that long. Returns the signals received since, and whether the parent has sent something."""
        files = [self._wake] if self._parent_is_gone else [self._wake, self._control.fileno()]
        readable, _, _ = select.select(files, [], [], seconds)
        if self._wake in readable:
            os.read(self._wake, 4_096)
        received, self._received = self._received, []
        return received, not self._parent_is_gone and self._control.fileno() in readable

    def heard(self) -> list[list[str]] | None:
        """Return the orders that the parent has sent, each as its words; None, once, when the parent is gone."""
        message = self._control.recv(65_536)
        if not message:
            self._parent_is_gone = True  # else `wait` would return at once for ever
            return None
        *lines, self._unfinished = (self._unfinished + message).split(b"\n")
        return [json.loads(line) for line in lines]

    def wake(self) -> None:
        """End the wait. Any thread may call it."""
        with contextlib.suppress(BlockingIOError):  # it is being woken already
            os.write(self._waker, b"!")

    def wake_parent(self) -> None:
        """Make the parent read the board."""
        with contextlib.suppress(OSError):  # it is gone, or has been woken often enough
            self._control.send(b"\n", socket.MSG_DONTWAIT)

    def let_go(self) -> None:
        """Release the handlers and files, in a process that a job has forked."""
        signals.restore()
        self._control.close()
        os.close(self._wake)
        os.close(self._waker)
