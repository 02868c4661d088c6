"""
What an atomic command costs: `python -m benchmarks.atomic [sqlite|postgres] [pairs]`.

No-op jobs in one worker thread of this process, in interleaved pairs: atomic ones beside plain ones, and beside others
made exactly-once by hand with a table. Of a job: real time, and processor time of this process; of both the ratio, the
median of all pairs with the lowest and the highest. A ratio over 1: the atomic one takes more.
"""

import os
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

JOBS = 200  # in each half of a pair
PAIRS = 15
WIDTHS = (10, 7, 20, 14, 7, 20)
RIVALS = {"plain": "Noop", "by hand, INSERT": "NoopByHand", "by hand, get_or_create": "NoopGetOrCreate"}


def main() -> int:
    database, pairs = sys.argv[1] if sys.argv[1:] else "sqlite", int(sys.argv[2]) if sys.argv[2:] else PAIRS
    with tempfile.TemporaryDirectory(prefix="jiki-atomic-") as folder, servers(Path(folder), database):
        import django

        django.setup()
        from django.db import connection

        from benchmarks.app import commands
        from benchmarks.app.models import Done
        from jobs.models import Receipt

        with connection.schema_editor() as editor:
            editor.create_model(Receipt)
            editor.create_model(Done)
        columns = ("ms, theirs", "atomic", "ratio", "CPU ms, theirs", "atomic", "ratio")
        print(f"{database:24}", *(f"{column:>{width}}" for column, width in zip(columns, WIDTHS, strict=True)))
        for title, name in RIVALS.items():
            rival = getattr(commands, name)
            for command in (rival, commands.NoopAtomic):
                spent(command, 50)  # connections, imports
            found = [(*spent(rival), *spent(commands.NoopAtomic)) for _ in range(pairs)]
            theirs, their_cpu, ours, our_cpu = (statistics.median(column) for column in zip(*found, strict=True))
            wall, cpu = ratio([each[2] / each[0] for each in found]), ratio([each[3] / each[1] for each in found])
            row = (f"{theirs:.3f}", f"{ours:.3f}", wall, f"{their_cpu:.3f}", f"{our_cpu:.3f}", cpu)
            print(f"{title:24}", *(f"{cell:>{width}}" for cell, width in zip(row, WIDTHS, strict=True)), flush=True)
    return 0


def ratio(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def spent(command: Any, jobs: int = JOBS) -> tuple[float, float]:
    """Drain so many jobs in a worker's thread. Returns milliseconds a job, real and of the processor."""
    from jobs.broker.connections import get_connection
    from jobs.worker.attempt import maker
    from jobs.worker.fetch import Fetch
    from jobs.worker.scoreboard import Board
    from jobs.worker.threads import JobThread

    command.defer_many([()] * jobs)
    get_connection("default").zadd("jobs:workers", {"bench": time.time()})
    board = Board(1)
    fetch = Fetch(
        "bench", {"default": None}, threads=1, board=board, blocks=True, release=lambda member: None, burst=True
    )
    thread = JobThread(0, fetch, board, maker("bench", lambda claim, seconds: None), lambda: None)
    wall, cpu = time.perf_counter(), time.process_time()
    thread.start()
    thread.join()
    fetch.flush()
    found = (time.perf_counter() - wall) / jobs * 1_000, (time.process_time() - cpu) / jobs * 1_000
    assert thread.finished == jobs, f"{thread.finished} of {jobs} have finished"
    return found


@contextmanager
def servers(folder: Path, database: str) -> Iterator[None]:
    folder.chmod(0o711)  # PostgreSQL runs as another user
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
        "SECRET_KEY": secrets.token_hex(),
        "LOG_LEVEL": "WARNING",
        "REDIS_URL": "redis://replaced-below",
        "DATABASE_URL": f"sqlite:///{folder / 'database'}",
    }
    if database == "postgres":
        os.environ["DATABASE_URL"] = f"postgres://jiki@/{quote(str(folder / 'postgres'))}/postgres"
    from benchmarks.servers import Valkey
    from tests.servers import Postgres

    server = Postgres(folder / "postgres")
    with Valkey(folder, os.environ) as valkey:
        os.environ["REDIS_URL"] = valkey.url
        if database == "postgres":
            server.start()
        try:
            yield
        finally:
            server.stop()


if __name__ == "__main__":
    sys.exit(main())
