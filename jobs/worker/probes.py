"""Answering health probes over HTTP, beside everything else that a worker's parent does: nothing here ever waits."""

import contextlib
import socket
import time
from collections.abc import Callable, Mapping

import orjson

PATIENCE = 5.0  # seconds that a caller has to say what it wants
LONGEST = 4_096  # bytes of a request
MOST = 32  # connections at once; of more the oldest goes


class Probes:
    """
    A small HTTP server without a thread. `answers` gives for each path what is wrong there: nothing is a 200, anything
    a 503 that lists it.
    """

    def __init__(self, port: int, answers: Mapping[str, Callable[[], list[str]]]) -> None:
        """Listen on that port, on all addresses. Raises OSError when it is taken, or not ours to take."""
        family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        self._listener = socket.create_server(
            ("", port), family=family, dualstack_ipv6=family is socket.AF_INET6, backlog=MOST
        )
        self._listener.setblocking(False)
        self._answers = answers
        self._callers: dict[socket.socket, tuple[float, bytes]] = {}  # since when, and what they have said

    def files(self) -> list[int]:
        """What to wait for: `serve` has something to do when one is readable."""
        return [each.fileno() for each in (self._listener, *self._callers)]

    def serve(self) -> None:
        """Hear whoever has called, and answer whoever has asked."""
        with contextlib.suppress(OSError):  # nobody (more) is there, or has gone again
            while True:
                caller, _ = self._listener.accept()
                caller.setblocking(False)
                self._callers[caller] = time.monotonic(), b""
        for caller, (since, said) in list(self._callers.items()):
            self._hear(caller, since, said)
        while len(self._callers) > MOST:
            self._hang_up(next(iter(self._callers)))

    def _hear(self, caller: socket.socket, since: float, said: bytes) -> None:
        try:
            more = caller.recv(LONGEST)
        except BlockingIOError:
            if time.monotonic() - since > PATIENCE:
                self._hang_up(caller)
            return
        except OSError:
            self._hang_up(caller)
            return
        said += more
        self._callers[caller] = since, said
        if b"\r\n\r\n" in said or len(said) > LONGEST or not more:
            with contextlib.suppress(OSError):  # a reply fits into the socket's buffer, or the caller has gone
                caller.send(self._reply(said))
            self._hang_up(caller)

    def _reply(self, said: bytes) -> bytes:
        method, _, rest = said.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0].decode(errors="replace")
        if method not in (b"GET", b"HEAD"):
            return _response("405 Method Not Allowed", {"status": "GET and HEAD alone"})
        if path not in self._answers:
            return _response("404 Not Found", {"status": f"there are {', '.join(self._answers)}"})
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
        """Let go of everything; after a fork, in the child, without a word to anybody."""
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
