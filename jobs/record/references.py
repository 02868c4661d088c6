"""
References to results: what an earlier step of a flow will return, as an argument of a later one. A reference is sent as
`{"$result": job id}`, and replaced by the result when the later step begins.
"""

from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import orjson
from redis import Redis

from jobs.broker import keys
from jobs.broker.times import as_text
from jobs.errors import PayloadError, SerializationError

TAG = "$result"
UNKNOWN: Any = object()  # of a command without an annotation

_allowed: ContextVar[bool] = ContextVar("jobs_references", default=False)


class Result:
    """The result of a step that has not run. `returns`: the annotation of its command's `call`."""

    __slots__ = ("job_id", "returns")

    def __init__(self, job_id: str, returns: Any = UNKNOWN) -> None:
        self.job_id, self.returns = job_id, returns

    def __repr__(self) -> str:
        return f"<result of job {self.job_id}>"


@contextmanager
def allowed() -> Iterator[None]:
    """Let results be encoded: a flow has checked that they are those of its steps."""
    token = _allowed.set(True)
    try:
        yield
    finally:
        _allowed.reset(token)


def encode(value: Result, _depth: int) -> dict[str, str]:
    """Return the reference to a result. SerializationError outside `allowed`."""
    if not _allowed.get():
        raise SerializationError("is the result of a step of a flow; only `flow.add` can pass it to another step")
    return {TAG: value.job_id}


def within(value: Any) -> list[Result]:
    """Return the results in a value: in lists, tuples, sets and dicts, too."""
    if type(value) is Result:
        return [value]
    if isinstance(value, Mapping):
        return [found for each in value.values() for found in within(each)]
    if isinstance(value, list | tuple | set | frozenset):
        return [found for each in value for found in within(each)]
    return []


def filled(client: Redis, value: Any) -> Any:
    """
    Return a JSON form with the results in place of their references; None for that of a step which did not finish.

    Raises PayloadError for the result of a finished step that is not kept; redis-py's errors.
    """
    ids = list(dict.fromkeys(_ids(value)))
    if not ids:
        return value
    with client.pipeline(transaction=False) as pipeline:
        for job_id in ids:
            pipeline.hget(keys.job(job_id), "status")
            pipeline.exists(keys.gone(job_id))
            pipeline.xrevrange(keys.results(job_id), "+", "-", 1)
        answers = pipeline.execute()
    found = {job_id: _result(job_id, *answers[3 * at : 3 * at + 3]) for at, job_id in enumerate(ids)}
    return _replaced(value, found)


def _result(job_id: str, status: bytes | None, is_gone: int, results: Sequence[Any]) -> Any:
    if (status is not None and as_text(status) != "finished") or is_gone:
        return None  # it ended badly, and this step runs all the same
    fields = results[0][1] if results else {}
    if status is None or as_text(fields.get(b"type", b"")) != "1":
        raise PayloadError(f"The result of job {job_id} is not kept: it was deleted, or has expired.")
    text = fields.get(b"return_value")
    if text is None:
        return None
    value = orjson.loads(b64decode(text))
    if isinstance(value, dict) and "$lost" in value:
        raise PayloadError(f"The result of job {job_id} could not be kept: {value['$lost']}.")
    return value


def _ids(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _ids(item)
    elif isinstance(value, dict):
        if TAG in value:
            yield str(value[TAG])
        else:
            for item in value.values():
                yield from _ids(item)


def _replaced(value: Any, found: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_replaced(item, found) for item in value]
    if isinstance(value, dict):
        if TAG in value:
            return found[str(value[TAG])]
        return {name: _replaced(item, found) for name, item in value.items()}
    return value
