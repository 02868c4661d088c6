"""What a child is told from outside: by signals, and by its parent on the control socket."""

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
        self._told: list[int] = []

    def listen(self, show_stacks: Callable[[], object]) -> None:
        """
        Install the handlers. None obeys at once, because the main thread may hold a lock that obeying takes; only
        `show_stacks()` is called in the handler of SIGTTIN, whatever the main thread waits for.
        """

        def tell(number: int, _frame: object = None) -> None:
            self._told.append(number)

        def tell_and_show(number: int, _frame: object) -> None:
            show_stacks()
            tell(number)

        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signals.handle(signal.SIGCHLD, signal.SIG_DFL)
        signals.handle(signal.SIGINT, signals.do_nothing)  # Ctrl-C reaches the whole group; the parent passes it on
        signals.handle(signal.SIGTERM, tell)
        signals.handle(signal.SIGTSTP, tell)
        signals.handle(signal.SIGTTIN, tell_and_show)
        signals.handle_meaningless(tell)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.PASSED_ON)

    def wait(self, seconds: float) -> tuple[list[int], bool]:
        """Wait at most so long. Returns the signals that have come since, and whether the parent has said something."""
        files = [self._wake] if self._parent_is_gone else [self._wake, self._control.fileno()]
        readable, _, _ = select.select(files, [], [], seconds)
        if self._wake in readable:
            os.read(self._wake, 4_096)
        told, self._told = self._told, []
        return told, not self._parent_is_gone and self._control.fileno() in readable

    def heard(self) -> list[list[str]] | None:
        """What the parent has said, the words of each order; None, once, when the parent is gone."""
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
        """Have the parent look at the board."""
        with contextlib.suppress(OSError):  # it is gone, or has been woken often enough
            self._control.send(b"\n", socket.MSG_DONTWAIT)

    def let_go(self) -> None:
        """In a process that a job has forked: none of this is for it."""
        signals.restore()
        self._control.close()
        os.close(self._wake)
        os.close(self._waker)
