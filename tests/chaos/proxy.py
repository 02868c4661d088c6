"""
A proxy between workers and their server that breaks connections where it hurts: `python -m tests.chaos.proxy SOCKET
SERVER`, both unix sockets. Without orders it passes everything on. It reads orders from its input, one a line:

    request    one request gets half-way, then both ends are closed
    answer     one request is done, and its answer is lost: the server knows what the client never hears
    half       one answer gets half-way
    swallow N  for N seconds the connections that are open now take everything and give nothing; then they close
    hole N     the same, and connections that are opened meanwhile get no further either
    late N     what is sent on the connections that are open now arrives N seconds from now, whoever still waits for it

It ends with its input, and so with the process that started it.
"""

import contextlib
import os
import selectors
import socket
import sys
import time
from collections.abc import Callable

CHUNK = 1 << 16  # bytes
LINGER = 1.0  # seconds that a connection stays open for what arrived late


class Pair:
    """One connection of a client, and ours to the server for it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.deaf_until = 0.0  # swallows until then, and closes
        self.late_until = 0.0  # keeps what the client sends until then
        self.held = bytearray()
        self.lost_part: float | None = None  # of the next answer; nothing follows it
        self.is_open = True
        for end in (client, server):
            end.settimeout(LINGER)  # for sending; nothing is read before it is there


class Proxy:
    """One loop; nothing in it waits but for what a select tells of."""

    def __init__(self, address: str, server: str) -> None:
        self._server = server
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(address)
        self._listener.listen(128)
        self._selector = selectors.DefaultSelector()
        self._pairs: set[Pair] = set()
        self._once: list[str] = []  # what is to happen to one request or answer each
        self._hole_until = 0.0
        self._ended = False
        os.set_blocking(sys.stdin.fileno(), False)
        self._watch(self._listener, self._accept)
        self._watch(sys.stdin, self._obey)

    def run(self) -> None:
        while not self._ended:
            for key, _ in self._selector.select(0.05):
                key.data()
            now = time.monotonic()
            for pair in list(self._pairs):
                if pair.late_until and pair.late_until <= now:
                    self._deliver(pair, now)
                if pair.deaf_until and pair.deaf_until <= now:
                    self._close(pair)

    def _watch(self, file: socket.socket | object, called: Callable[[], None]) -> None:
        self._selector.register(file, selectors.EVENT_READ, called)  # type: ignore[arg-type]

    def _obey(self) -> None:
        orders = os.read(sys.stdin.fileno(), CHUNK).decode()
        self._ended = not orders
        for order in orders.splitlines():
            word, _, seconds = order.partition(" ")
            until = time.monotonic() + float(seconds or 0)
            if not seconds:
                self._once.append(word)
            elif word == "hole":
                self._hole_until = until
            for pair in self._pairs:
                if word in {"swallow", "hole"}:
                    pair.deaf_until = until
                elif word == "late" and not pair.deaf_until:
                    pair.late_until = until

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self._server)
        except OSError:  # it is down, and so are we
            client.close()
            server.close()
            return
        pair = Pair(client, server)
        if self._hole_until > time.monotonic():
            pair.deaf_until = self._hole_until
        self._pairs.add(pair)
        self._watch(client, lambda: self._from_client(pair))
        self._watch(server, lambda: self._from_server(pair))

    def _from_client(self, pair: Pair) -> None:
        if not pair.is_open:  # closed in this very round
            return
        data = _received(pair.client)
        if not data and pair.late_until:
            self._selector.unregister(pair.client)  # it has given up; what it sent is still on its way
        elif not data:
            self._close(pair)
        elif pair.late_until:
            pair.held += data
        elif not pair.deaf_until:
            once = self._once.pop(0) if self._once else ""
            if once == "request":
                self._send(pair, pair.server, data[: len(data) // 2])
                self._close(pair)
                return
            if once:
                pair.lost_part = 1.0 if once == "answer" else 0.5
            self._send(pair, pair.server, data)

    def _from_server(self, pair: Pair) -> None:
        if not pair.is_open:
            return
        data = _received(pair.server)
        if not data:
            self._close(pair)
        elif pair.lost_part is not None:
            self._send(pair, pair.client, data[: int(len(data) * (1 - pair.lost_part))])
            self._close(pair)
        elif not pair.deaf_until:
            self._send(pair, pair.client, data)

    def _deliver(self, pair: Pair, now: float) -> None:
        pair.late_until, pair.deaf_until = 0.0, now + LINGER
        self._send(pair, pair.server, bytes(pair.held))

    def _send(self, pair: Pair, end: socket.socket, data: bytes) -> None:
        try:
            end.sendall(data)
        except OSError:
            self._close(pair)

    def _close(self, pair: Pair) -> None:
        if pair.is_open:
            pair.is_open = False
            self._pairs.discard(pair)
            for end in (pair.client, pair.server):
                with contextlib.suppress(KeyError):
                    self._selector.unregister(end)
                end.close()


def _received(end: socket.socket) -> bytes:
    """What has come; nothing when the connection has ended."""
    try:
        return end.recv(CHUNK)
    except OSError:
        return b""


if __name__ == "__main__":
    Proxy(*sys.argv[1:]).run()
