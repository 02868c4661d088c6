"""A new job in bytes, as a row of the outbox keeps it until Redis has the job."""

from collections.abc import Iterable
from typing import Any

import orjson

from jobs.errors import NewerPayloadError, PayloadError
from jobs.record import payload
from jobs.record.new_jobs import Collapsing, Lock, NewJob
from jobs.record.prerequisites import Prerequisites

VERSION = 1  # the newest that this release reads


def pack(job: NewJob, durable: Iterable[str] = ()) -> bytes:
    """Return a job in bytes. `durable`: ids of its prerequisites that are durable, too, beside those that say so."""
    fields = [word.decode() if isinstance(word, bytes) else word for word in job.fields]
    packed: dict[str, Any] = {"v": VERSION, "call": job.payload.decode(), "fields": fields}
    if job.due is not None:
        packed |= {"due": job.due, "is_wait": job.is_wait}
    if job.prerequisites.jobs:
        packed |= {"waits": job.prerequisites.ids(), "any": job.prerequisites.any_end}
        packed["durable"] = list(dict.fromkeys((*job.prerequisites.durable_ids(), *durable)))
    if job.lock:
        packed["lock"] = list(job.lock)
    if job.collapse:
        packed["collapse"] = list(job.collapse)
    if job.at_front:
        packed["front"] = True
    if job.expires_in is not None:
        packed["expires_in"] = job.expires_in
    if job.batch:
        packed["batch"] = job.batch
    return payload.stored(orjson.dumps(packed))


def unpack(job_id: str, queue: str, data: bytes) -> NewJob:
    """
    Return the job that `pack` has packed.

    Raises NewerPayloadError if a newer release packed it, PayloadError for all other data that `pack` does not write.
    """
    try:
        packed = orjson.loads(payload.inflated(data))
        version = packed["v"]
        if type(version) is int and version > VERSION:
            raise NewerPayloadError(
                f"The row is of version {version}, and this release reads up to {VERSION}. "
                "A worker of the release that wrote it sends it."
            )
        return NewJob(
            job_id,
            queue,
            packed["call"].encode(),
            due=packed.get("due"),
            fields=tuple(packed["fields"]),
            prerequisites=Prerequisites(
                tuple(packed.get("waits", ())), packed.get("any", False), tuple(packed.get("durable", ()))
            ),
            lock=Lock(*packed["lock"]) if "lock" in packed else None,
            at_front=packed.get("front", False),
            is_wait=packed.get("is_wait", False),
            expires_in=packed.get("expires_in"),
            durable=True,
            collapse=Collapsing(*packed["collapse"]) if "collapse" in packed else None,
            batch=packed.get("batch", ""),
        )
    except NewerPayloadError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise PayloadError(f"The row cannot be read: {type(error).__name__}: {error}") from error
