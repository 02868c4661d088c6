"""A server behind TLS: the wheel's Valkey speaks none, so something in front of it does, as stunnel would."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path

OPENSSL = shutil.which("openssl")


class Certificates:
    """An authority of our own, and a certificate by it for 127.0.0.1, made in this folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.authority, self.certificate, self.key = (folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
        authority_key, request, names = (folder / name for name in ("ca.key", "cert.csr", "names"))
        names.write_text("subjectAltName=IP:127.0.0.1\n")
        new = ("req", "-newkey", "rsa:2048", "-nodes")
        signs = ("-addext", "keyUsage=critical,keyCertSign")  # Python 3.13 asks for it
        _openssl(
            *new, "-x509", *signs, "-days", "2", "-subj", "/CN=tests", "-keyout", authority_key, "-out", self.authority
        )
        _openssl(*new, "-subj", "/CN=valkey", "-keyout", self.key, "-out", request)
        sign = ("x509", "-req", "-in", request, "-CA", self.authority, "-CAkey", authority_key, "-CAcreateserial")
        _openssl(*sign, "-days", "2", "-extfile", names, "-out", self.certificate)


def _openssl(*words: object) -> None:
    done = subprocess.run([OPENSSL, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class TlsFront:
    """Takes TLS on a loopback port and passes what is in it to a server's; `broken` counts bad handshakes."""

    def __init__(self, certificates: Certificates, server_port: int) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates.certificate, certificates.key)
        self._server_port, self.broken = server_port, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> "TlsFront":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            near = self._context.wrap_socket(client, server_side=True)
        except OSError:
            self.broken += 1
            client.close()
            return
        far = socket.create_connection(("127.0.0.1", self._server_port))
        near.settimeout(None)
        back = threading.Thread(target=_pass, args=(far, near), daemon=True)
        back.start()
        _pass(near, far)
        back.join()
        near.close()
        far.close()


def _pass(from_: socket.socket, to: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := from_.recv(1 << 16):
            to.sendall(data)
    for end in (from_, to):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
