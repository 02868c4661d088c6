"""
What those who run the worker see of it: answers to probes, and the notices of sd_notify(3).

https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html has the protocol, which is one datagram to the
socket that NOTIFY_SOCKET names; sd_watchdog_enabled(3) what WATCHDOG_USEC and WATCHDOG_PID mean.
"""

import contextlib
import os
import select
import socket
import time
from math import inf

from jobs.worker.health import Health
from jobs.worker.probes import Probes

WAITING_FOR = 30  # seconds more that a worker asks for while it waits for Redis to start


class Supervision:
    """`serve` does whatever is due, and never waits; the parent calls it between all that it does."""

    def __init__(self, health: Health, port: int | None) -> None:
        """`port`: where to answer probes; None: nowhere. Raises OSError when it is taken."""
        self._health = health
        self._probes = (
            None if port is None else Probes(port, {"/healthz": health.problems, "/readyz": health.hindrances})
        )
        self._is_ready = False
        self._watched = _watchdog()
        self._next_sign = 0.0  # monotonic seconds

    def files(self) -> list[int]:
        """What to wait for: `serve` has something to do when one is readable."""
        return self._probes.files() if self._probes else []

    def serve(self) -> None:
        """Answer probes, say once that the worker is ready, and show signs of life while it is well."""
        if self._probes:
            self._probes.serve()
        if not self._is_ready and "NOTIFY_SOCKET" in os.environ and not self._health.hindrances():
            self._is_ready = True
            notify("READY=1")
        if time.monotonic() >= self._next_sign and not self._health.problems():
            self._next_sign = time.monotonic() + self._watched
            notify("WATCHDOG=1")

    def wait(self, seconds: float) -> None:
        """Wait for the server at the start, and say so."""
        notify("STATUS=waiting for Redis", f"EXTEND_TIMEOUT_USEC={WAITING_FOR}000000")
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            select.select(self.files(), [], [], left)
            self.serve()

    def tell(self) -> None:
        """Show in a line how it is."""
        notify(f"STATUS={self._health.summary()}")

    def stop(self) -> None:
        """The worker is stopping."""
        self._health.stopping = True
        notify("STOPPING=1")

    def close(self) -> None:
        """In a child, after the fork: probes are the parent's."""
        if self._probes:
            self._probes.close()


def notify(*lines: str) -> None:
    """Send `READY=1` and the like. Nothing happens where nobody supervises, or nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.connect("\0" + address[1:] if address[0] == "@" else address)
        sender.send("\n".join(lines).encode())


def _watchdog() -> float:
    """Seconds between two signs of life, half of what systemd waits for one; inf when it waits for none."""
    microseconds, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdigit() or int(microseconds) == 0 or pid not in ("", str(os.getpid())):
        return inf
    return int(microseconds) / 2_000_000
