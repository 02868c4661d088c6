"""Publishes the code version of each process, to detect workers and web processes of different releases."""

import dataclasses
import hashlib
import os
import socket
import time
from functools import cache
from math import inf
from typing import Any

from jobs import conf
from jobs.broker import keys
from jobs.broker.connections import servers
from jobs.broker.times import as_text
from jobs.inspection.single_flight import SingleFlight
from jobs.record import registry

TELL_EVERY = 10.0  # seconds between two publications by a web process that is probed
PUBLISHED_FOR = 120  # seconds that a published version counts


def code_version() -> str:
    """
    Return JOBS["VERSION"]: a release or a commit. Without it, a digest of the commands' names and fields, which shows
    whether payloads mean the same in two processes, but not whether all of their code is the same.
    """
    return str(conf.get("VERSION") or f"commands-{_digest()}")


def release() -> str:
    """Return the same, with the digest computed once in this process."""
    return str(conf.get("VERSION") or _first_digest())


@cache
def _first_digest() -> str:
    return code_version()


def publish() -> None:
    """Publish this web process's code version for the doctor, from another thread. Never blocks, raises nothing."""
    global _published_at
    now = time.monotonic()
    if now - _published_at > TELL_EVERY:
        _published_at = now
        _publishing.start()


def published() -> dict[str, str]:
    """Return the code version of each web process that was probed lately, by its name. Raises redis-py's errors."""
    members: Any = servers()[0].zrangebyscore(keys.CODE_VERSIONS, time.time() - PUBLISHED_FOR, "+inf")
    return {name: version for name, _, version in (as_text(member).partition(" ") for member in members)}


def _publish() -> None:
    now = time.time()
    with servers()[0].pipeline() as pipeline:
        pipeline.zadd(keys.CODE_VERSIONS, {f"{socket.gethostname()}:{os.getpid()} {code_version()}": now})
        pipeline.zremrangebyscore(keys.CODE_VERSIONS, "-inf", now - PUBLISHED_FOR)
        pipeline.expire(keys.CODE_VERSIONS, PUBLISHED_FOR)
        pipeline.execute()


_published_at = -inf  # monotonic seconds
_publishing = SingleFlight("version", _publish)


def _digest() -> str:
    digest = hashlib.sha256()
    for name, command in sorted(registry.all_commands().items()):
        digest.update(f"{name}\n".encode())
        for field in dataclasses.fields(command):
            is_optional = (field.default, field.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
            digest.update(f" {field.name} {field.type} {is_optional}\n".encode())
    return digest.hexdigest()[:8]
