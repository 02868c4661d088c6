"""Answers health probes over HTTP in the loop of a worker's parent, without ever blocking it."""

import contextlib
import socket
import time
from collections.abc import Callable, Mapping

import orjson

PATIENCE = 5.0  # seconds that a client has to send its request
LONGEST = 4_096  # bytes of a request
MOST = 32  # connections at once; if there are more, the oldest is closed


class Probes:
    """
    A small HTTP server without a thread. `answers` has a function for each path that returns problems: without any, the
    response is a 200, otherwise a 503 that lists them.
    """

    def __init__(self, port: int, answers: Mapping[str, Callable[[], list[str]]]) -> None:
        """Listen on a port, on all addresses. Raises OSError if it is taken or not allowed."""
        family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        self._listener = socket.create_server(
            ("", port), family=family, dualstack_ipv6=family is socket.AF_INET6, backlog=MOST
        )
        self._listener.setblocking(False)
        self._answers = answers
        self._callers: dict[socket.socket, tuple[float, bytes]] = {}  # when each connected, and what it has sent

    def files(self) -> list[int]:
        """Return the files to wait for: call `serve` when one is readable."""
        return [each.fileno() for each in (self._listener, *self._callers)]

    def serve(self) -> None:
        """Accept new connections, and answer complete requests."""
        with contextlib.suppress(OSError):  # no (more) connections, or the client has gone
            while True:
                caller, _ = self._listener.accept()
                caller.setblocking(False)
                self._callers[caller] = time.monotonic(), b""
        for caller, (since, request) in list(self._callers.items()):
            self._receive(caller, since, request)
        while len(self._callers) > MOST:
            self._hang_up(next(iter(self._callers)))

    def _receive(self, caller: socket.socket, since: float, request: bytes) -> None:
        try:
            more = caller.recv(LONGEST)
        except BlockingIOError:
            if time.monotonic() - since > PATIENCE:
                self._hang_up(caller)
            return
        except OSError:
            self._hang_up(caller)
            return
        request += more
        self._callers[caller] = since, request
        if b"\r\n\r\n" in request or len(request) > LONGEST or not more:
            with contextlib.suppress(OSError):  # a reply fits into the socket's buffer, or the client has gone
                caller.send(self._reply(request))
            self._hang_up(caller)

    def _reply(self, request: bytes) -> bytes:
        method, _, rest = request.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0].decode(errors="replace")
        if method not in (b"GET", b"HEAD"):
            return _response("405 Method Not Allowed", {"status": "only GET and HEAD"})
        if path not in self._answers:
            return _response("404 Not Found", {"status": f"the paths are {', '.join(self._answers)}"})
        problems = self._answers[path]()
        if problems:
            reply = _response("503 Service Unavailable", {"status": "failing", "problems": problems})
        else:
            reply = _response("200 OK", {"status": "ok"})
        return reply if method == b"GET" else reply.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    def _hang_up(self, caller: socket.socket) -> None:
        del self._callers[caller]
        caller.close()

    def close(self) -> None:
        """Close all sockets; in a child after the fork, this does not affect the clients."""
        for each in (self._listener, *self._callers):
            each.close()
        self._callers.clear()


def _response(status: str, body: dict[str, object]) -> bytes:
    text = orjson.dumps(body)
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + text
