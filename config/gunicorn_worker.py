"""
gunicorn's threaded worker with a time limit for each request's arrival and for each write of the answer.

gunicorn itself waits for ever for the rest of a request, so a few stalled clients would hold all threads.
"""

import errno
import socket
import time
from typing import Any

from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

ARRIVAL = 20  # seconds in which a request's header and body must arrive
WRITE = 30  # seconds in which the client must take what is sent at once


class TimedSocket(socket.socket):
    """A socket whose reads all end at `until` (monotonic), with a ConnectionResetError."""

    until = 0.0

    def recv(self, *args: Any) -> bytes:
        previous, left = self.gettimeout(), self.until - time.monotonic()
        if previous is not None:  # gunicorn's own, while it drops the rest of a request
            left = min(previous, left)
        if left <= 0:
            raise _too_slow()
        self.settimeout(left)
        try:
            return super().recv(*args)
        except TimeoutError:
            raise _too_slow() from None
        finally:
            self.settimeout(previous)

    def sendall(self, *args: Any) -> None:
        previous = self.gettimeout()
        self.settimeout(WRITE)
        try:
            super().sendall(*args)
        except TimeoutError:
            raise _too_slow() from None
        finally:
            self.settimeout(previous)


class TimedWorker(ThreadWorker):  # type: ignore[misc]
    """Set by gunicorn.conf.py."""

    def handle(self, conn: Any) -> Any:
        """Serve one request of a connection, in a thread. Called again for the next one on a kept-alive connection."""
        if not isinstance(conn.sock, TimedSocket):
            conn.sock = TimedSocket(fileno=conn.sock.detach())
        conn.sock.until = time.monotonic() + ARRIVAL
        return super().handle(conn)


def _too_slow() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, "The client was too slow.")
