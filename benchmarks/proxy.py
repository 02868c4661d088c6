"""
A TCP proxy that holds everything back for 1 ms each way: `python -m benchmarks.proxy PORT SERVER_PORT`.

It must not be what is measured, so it does little: one loop, one line in which all that is held back waits, because all
waits equally long. epoll alone would round the waits to whole milliseconds, as long as the delay itself.
"""

import contextlib
import select
import socket
import sys
import time
from collections import deque

DELAY = 0.001  # seconds each way
CHUNK = 1 << 16  # bytes


def serve(port: int, server_port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    readable = select.epoll()
    readable.register(listener, select.EPOLLIN)
    ends: dict[int, tuple[socket.socket, socket.socket]] = {}  # by number: what is read there goes to the second
    held: deque[tuple[float, socket.socket, bytes]] = deque()

    def accept() -> None:
        near, far = listener.accept()[0], socket.create_connection(("127.0.0.1", server_port))
        for end, other in ((near, far), (far, near)):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ends[end.fileno()] = end, other
            readable.register(end, select.EPOLLIN)

    def close(number: int) -> None:
        for end in ends.get(number, ()):
            readable.unregister(end)
            del ends[end.fileno()]
            end.close()

    def receive(number: int) -> None:
        end, other = ends[number]
        received = b""
        with contextlib.suppress(ConnectionError):
            received = end.recv(CHUNK)
        if received:
            held.append((time.monotonic() + DELAY, other, received))
        else:
            close(number)

    while True:
        select.select([readable], [], [], max(0, held[0][0] - time.monotonic()) if held else None)
        for number, _ in readable.poll(0):
            if number == listener.fileno():
                accept()
            elif number in ends:  # the other end may have closed both
                receive(number)
        now = time.monotonic()
        while held and held[0][0] <= now:
            _, end, data = held.popleft()
            try:
                end.sendall(data)
            except OSError:  # it is closed: so is the other end, or will be
                close(end.fileno())


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
