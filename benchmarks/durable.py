"""
What a durable `defer` costs: `python -m benchmarks.durable [sqlite|postgres] [pairs]`.

Transactions of one INSERT and one `defer`, in interleaved pairs: of a durable job beside a plain one. Of a transaction:
real time, and processor time of this process; of both the ratio, the median of all pairs with the lowest and the
highest. A ratio over 1: the durable one takes more.
"""

import os
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path

from benchmarks.atomic import PAIRS, WIDTHS, ratio, servers

TRANSACTIONS = 200  # in each half of a pair


def main() -> int:
    database, pairs = sys.argv[1] if sys.argv[1:] else "sqlite", int(sys.argv[2]) if sys.argv[2:] else PAIRS
    os.environ["BENCH_OUTBOX"] = "default"
    with tempfile.TemporaryDirectory(prefix="jiki-durable-") as folder, servers(Path(folder), database):
        import django

        django.setup()
        from django.db import connection

        from benchmarks.app.models import Done
        from jobs.models import Unsent

        with connection.schema_editor() as editor:
            editor.create_model(Unsent)
            editor.create_model(Done)
        columns = ("ms, plain", "durable", "ratio", "CPU ms, plain", "durable", "ratio")
        print(f"{database:24}", *(f"{column:>{width}}" for column, width in zip(columns, WIDTHS, strict=True)))
        spent(durable=False), spent(durable=True)  # connections, imports
        found = [(*spent(durable=False), *spent(durable=True)) for _ in range(pairs)]
        plain, plain_cpu, ours, our_cpu = (statistics.median(column) for column in zip(*found, strict=True))
        wall, cpu = ratio([each[2] / each[0] for each in found]), ratio([each[3] / each[1] for each in found])
        row = (f"{plain:.3f}", f"{ours:.3f}", wall, f"{plain_cpu:.3f}", f"{our_cpu:.3f}", cpu)
        print(f"{'INSERT and defer':24}", *(f"{cell:>{width}}" for cell, width in zip(row, WIDTHS, strict=True)))
        assert not Unsent.objects.exists(), "the commit has not sent all jobs"
    return 0


def spent(*, durable: bool) -> tuple[float, float]:
    """Commit so many transactions. Returns milliseconds for each, real and of the processor."""
    from django.db import transaction

    from benchmarks.app.commands import Noop
    from benchmarks.app.models import Done

    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(TRANSACTIONS):
        with transaction.atomic():
            Done.objects.create(job_id=str(uuid.uuid4()))
            Noop.defer(durable=durable)
    return (time.perf_counter() - wall) / TRANSACTIONS * 1_000, (time.process_time() - cpu) / TRANSACTIONS * 1_000


if __name__ == "__main__":
    sys.exit(main())
