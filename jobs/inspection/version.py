"""Which code a process runs, so that it shows when workers and web processes are of different releases."""

import dataclasses
import hashlib
import os
import socket
import time
from math import inf
from typing import Any

from jobs import conf
from jobs.broker import keys
from jobs.broker.connections import servers
from jobs.broker.times import as_text
from jobs.inspection.single_flight import SingleFlight
from jobs.record import registry

TELL_EVERY = 10.0  # seconds between two times that a web process that is probed says what it runs
PUBLISHED_FOR = 120  # seconds that this counts


def code_version() -> str:
    """
    What JOBS["VERSION"] says: a release, a commit. Without it a digest of the commands' names and fields, which tells
    whether payloads mean the same in two processes, and not whether all of their code is the same.
    """
    return str(conf.get("VERSION") or f"commands-{_digest()}")


def tell() -> None:
    """Let the doctor know what this web process runs. Costs its caller nothing, whatever becomes of it."""
    global _told_at
    now = time.monotonic()
    if now - _told_at > TELL_EVERY:
        _told_at = now
        _telling.start()


def told() -> dict[str, str]:
    """The version that each web process ran which was probed lately, by its name. Raises redis-py's errors."""
    members: Any = servers()[0].zrangebyscore(keys.CODE_VERSIONS, time.time() - PUBLISHED_FOR, "+inf")
    return {name: version for name, _, version in (as_text(member).partition(" ") for member in members)}


def _tell() -> None:
    now = time.time()
    with servers()[0].pipeline() as pipeline:
        pipeline.zadd(keys.CODE_VERSIONS, {f"{socket.gethostname()}:{os.getpid()} {code_version()}": now})
        pipeline.zremrangebyscore(keys.CODE_VERSIONS, "-inf", now - PUBLISHED_FOR)
        pipeline.expire(keys.CODE_VERSIONS, PUBLISHED_FOR)
        pipeline.execute()


_told_at = -inf  # monotonic seconds
_telling = SingleFlight("version", _tell)


def _digest() -> str:
    found = hashlib.sha256()
    for name, command in sorted(registry.all_commands().items()):
        found.update(f"{name}\n".encode())
        for field in dataclasses.fields(command):
            is_optional = (field.default, field.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
            found.update(f" {field.name} {field.type} {is_optional}\n".encode())
    return found.hexdigest()[:8]
