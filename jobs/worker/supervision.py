"""
Reports the worker's state to its supervisor: by answers to probes, and by the notices of sd_notify(3).

https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html describes the protocol: one datagram to the
socket that NOTIFY_SOCKET names. sd_watchdog_enabled(3) describes WATCHDOG_USEC and WATCHDOG_PID.
"""

import contextlib
import os
import select
import socket
import time
from math import inf

from jobs.worker.health import Health
from jobs.worker.probes import Probes

WAITING_FOR = 30  # seconds by which a worker extends its start time-out while it waits for Redis


class Supervision:
    """Answers probes and sends notices. `serve` never blocks; the parent calls it between its duties."""

    def __init__(self, health: Health, port: int | None) -> None:
        """`port`: the port for probes; None: no probes. Raises OSError if it is taken."""
        self._health = health
        self._probes = (
            None if port is None else Probes(port, {"/healthz": health.problems, "/readyz": health.hindrances})
        )
        self._is_ready = False
        self._watched = _watchdog()
        self._next_notice = 0.0  # monotonic seconds

    def files(self) -> list[int]:
        """Return the files to wait for: call `serve` when one is readable."""
        return self._probes.files() if self._probes else []

    def serve(self) -> None:
        """Answer probes, send READY once when the worker is ready, and WATCHDOG while it has no problems."""
        if self._probes:
            self._probes.serve()
        if not self._is_ready and "NOTIFY_SOCKET" in os.environ and not self._health.hindrances():
            self._is_ready = True
            notify("READY=1")
        if time.monotonic() >= self._next_notice and not self._health.problems():
            self._next_notice = time.monotonic() + self._watched
            notify("WATCHDOG=1")

    def wait(self, seconds: float) -> None:
        """Wait for the server at the start, and send that as the status."""
        notify("STATUS=waiting for Redis", f"EXTEND_TIMEOUT_USEC={WAITING_FOR}000000")
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            select.select(self.files(), [], [], left)
            self.serve()

    def report(self) -> None:
        """Send the worker's state as a line."""
        notify(f"STATUS={self._health.summary()}")

    def stop(self) -> None:
        """Report that the worker is stopping."""
        self._health.stopping = True
        notify("STOPPING=1")

    def close(self) -> None:
        """Close the probes, in a child after the fork: they are the parent's."""
        if self._probes:
            self._probes.close()


def notify(*lines: str) -> None:
    """Send lines such as `READY=1`. Does nothing without a supervisor, or if it does not listen."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.connect("\0" + address[1:] if address[0] == "@" else address)
        sender.send("\n".join(lines).encode())


def _watchdog() -> float:
    """Return the seconds between two watchdog notices, half of systemd's time-out; inf if systemd expects none."""
    microseconds, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdigit() or int(microseconds) == 0 or pid not in ("", str(os.getpid())):
        return inf
    return int(microseconds) / 2_000_000
