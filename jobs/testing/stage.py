"""
Putting a kit in place of the machine's clock and servers, and taking it away again; each thread sees its own.

A thread that has no kit, because the code under test has started it, sees the one kit that is open. The transaction in
which Django wraps a TestCase counts as committed: only those that the code under test opens are waited for.
"""

import threading
import time
from typing import TYPE_CHECKING, Any

from django.db import connections, transaction

from jobs import queues, seams

if TYPE_CHECKING:
    from jobs.testing.kit import Kit

_kits: list["Kit"] = []  # those that are open, the newest last
_of_thread = threading.local()
_lock = threading.Lock()
_exit = transaction.Atomic.__exit__
_open_transactions = seams.open_transactions


def enter(kit: "Kit") -> None:
    """Show this kit to the calling thread, until it leaves."""
    with _lock:
        if not _kits:
            seams.now, seams.stand_in, seams.open_transactions = _now, _stand_in, _open_in_test
            transaction.Atomic.__exit__ = _exit_and_write  # type: ignore[method-assign]
        _kits.append(kit)
    _own().append(kit)


def leave(kit: "Kit") -> None:
    """Show it no more."""
    _own().remove(kit)
    with _lock:
        _kits.remove(kit)
        if not _kits:
            seams.now, seams.stand_in, seams.open_transactions = time.time, None, _open_transactions
            transaction.Atomic.__exit__ = _exit  # type: ignore[method-assign]


def current() -> "Kit":
    """The kit of this thread; without one, the one that is open."""
    if own := _own():
        return own[-1]
    if len(_kits) == 1:
        return _kits[0]
    raise RuntimeError(
        f"This thread has no testing kit of its own, and {len(_kits)} are open. Open one in it: `with Kit() as jobs:`."
    )


def _own() -> list["Kit"]:
    return _of_thread.__dict__.setdefault("kits", [])  # type: ignore[no-any-return]


def _now() -> float:
    return current().now() if _kits else time.time()


def _stand_in() -> Any:
    return current().memory


def _open_in_test() -> list[str]:
    return [c.alias for c in connections.all(initialized_only=True) if _is_open(c)]


def _is_open(connection: Any) -> bool:
    return any(not block._from_testcase for block in connection.atomic_blocks)


def _exit_and_write(self: Any, *error: Any) -> None:
    """Where the outermost block of the code under test ends, jobs that waited for it are written, as at a commit."""
    _exit(self, *error)
    connection: Any = connections[self.using or "default"]
    if not connection.in_atomic_block or _is_open(connection):
        return
    ours = [entry for entry in connection.run_on_commit if getattr(entry[1], "__module__", "") == queues.__name__]
    for entry in ours:  # those of a savepoint that was rolled back are gone by now
        connection.run_on_commit.remove(entry)
        entry[1]()
