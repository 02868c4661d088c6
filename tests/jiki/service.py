"""A content service of a test's own, on a real socket, that misbehaves as it is told to."""

import json
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TEXTS = {"title": "Loops", "text": "Write *one*.", "starter": "    pass\n"}


def answer(status=200, body=TEXTS, **headers):
    """An answer with a whole body: bytes, or what is sent as JSON. `Retry_After="30"` is a header."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda handler: handler.send(status, data, {"Content-Length": len(data), **headers})


def cut(handler):
    """Announces more than it sends."""
    handler.send(200, b'{"title": "Lo', {"Content-Length": 1_000})


def cut_chunks(handler):
    handler.send(200, b"5\r\n{'tit\r\n", {"Transfer-Encoding": "chunked"})


def reset(handler):
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def hang(handler):
    """Says nothing until the test is over."""
    handler.server.is_over.wait(30)


def drip(handler):
    """A byte at a time, and never the last one."""
    handler.send(200, b"{", {"Content-Length": 1_000_000})
    while not handler.server.is_over.wait(0.01):
        handler.wfile.write(b" ")


def flood(handler):
    """Without end."""
    handler.send(200, b"{", {})
    while not handler.server.is_over.is_set():
        handler.wfile.write(b" " * 65_536)


def no_http(handler):
    handler.wfile.write(b"+OK POP3 server ready\r\n")


class ContentService(ThreadingHTTPServer):
    """Answers by `answers` in turn, then no more. `requests` has the headers of each."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.requests, self.is_over = [], [], threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/exercises"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self):
        self.is_over.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request, client_address):
        """The client hung up on us, which some tests want."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(dict(self.headers) | {"path": self.path})
        self.server.answers.pop(0)(self)
        self.close_connection = True

    def send(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value() if callable(value) else value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass
