"""
A TCP proxy that holds everything back for 1 ms each way: `python -m benchmarks.proxy PORT SERVER_PORT`.

One loop over `select`, whose time-out is in microseconds; an event loop's is in whole milliseconds, as long as the
delay itself.
"""

import select
import socket
import sys
import time
from collections import deque

DELAY = 0.001  # seconds each way
CHUNK = 1 << 16  # bytes


class Side:
    """One end of a connection: what was received for it, and when that may be sent on."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.other: Side
        self.held: deque[tuple[float, bytes]] = deque()
        self.due = bytearray()
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end.setblocking(False)

    def fileno(self) -> int:
        return self.end.fileno()

    def release(self, now: float) -> None:
        while self.held and self.held[0][0] <= now:
            self.due += self.held.popleft()[1]

    def send(self) -> None:
        sent = self.end.send(self.due)
        del self.due[:sent]


def serve(port: int, server_port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    sides: set[Side] = set()

    def accept() -> None:
        near, far = (
            Side(listener.accept()[0]),
            Side(socket.create_connection(("127.0.0.1", server_port))),
        )
        near.other, far.other = far, near
        sides.update((near, far))

    def close(side: Side) -> None:
        for each in (side, side.other):
            sides.discard(each)
            each.end.close()

    while True:
        now = time.monotonic()
        for side in sides:
            side.release(now)
        next_due = min((side.held[0][0] for side in sides if side.held), default=None)
        readable, writable, _ = select.select(
            [listener, *sides],
            [side for side in sides if side.due],
            [],
            None if next_due is None else max(0, next_due - now),
        )
        for side in writable:
            try:
                side.send()
            except OSError:
                close(side)
        for side in readable:
            if side is listener:
                accept()
            elif side in sides:
                try:
                    received = side.end.recv(CHUNK)
                except OSError:
                    received = b""
                if received:
                    side.other.held.append((time.monotonic() + DELAY, received))
                else:
                    close(side)


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
