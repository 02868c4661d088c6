"""A mail server of a test's own, on a real socket, that does what it is told to."""

import socketserver
import threading
from email import message_from_bytes

DROP = ""  # instead of an answer: the connection is closed
GREETING, END = "GREETING", "END"  # the steps that are no word of the client: the connection, the mail's last line
YES = {GREETING: "220 ready", "DATA": "354 go on", "QUIT": "221 bye"}


class SmtpServer(socketserver.ThreadingTCPServer):
    """
    Answers each connection by the next plan of `plans`, `{"RCPT": "450 later"}`, and yes where that has nothing.

    An answer may be a function of the line. It refuses connections until `open` is called. `received` has the mails
    that it took, whether or not it could say so.
    """

    daemon_threads = True
    request_queue_size = 50

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self.server_bind()
        self.plans, self.received = [], []
        self.connections = 0
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self):
        return f"smtp://127.0.0.1:{self.server_address[1]}"

    def open(self):
        self.server_activate()
        self._thread.start()

    def close(self):
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.server_close()


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.server.connections += 1
        self.plan = self.server.plans.pop(0) if self.server.plans else {}
        goes_on = self.answer(GREETING)
        while goes_on and (line := self.rfile.readline()):
            word = line.split()[0].decode().upper()
            goes_on = self.answer(word, line)
            if word == "DATA" and goes_on and self.plan.get("DATA", "354").startswith("354"):
                goes_on = self.take()
            if word == "QUIT":
                return

    def take(self):
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            lines.append(line)
        if self.plan.get("is_taken", self.plan.get(END, "250").startswith("250")):
            self.server.received.append(message_from_bytes(b"".join(lines)))
        return self.answer(END)

    def answer(self, step, line=b""):
        """Say what the plan has; whether the connection goes on."""
        text = self.plan.get(step, YES.get(step, "250 yes"))
        text = text(line.decode()) if callable(text) else text
        if text != DROP:
            self.wfile.write(f"{text}\r\n".encode())
        return text != DROP
