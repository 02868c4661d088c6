"""
What a release leaves in the server: jobs in every form that they lie there in, as JSON files, one a scene.

`SAMPLES=1 make test ARGS=tests/compat/test_releases.py` writes those of the present version. Files of versions that
have been released are never written again.
"""

import base64
import json
import re
import zlib
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.utils import timezone, translation
from django.utils.safestring import mark_safe
from redis import Redis

import jobs
from jobs import Mandate, control, scheduler
from jobs.broker.connections import get_connection
from jobs.scheduler import Entry
from tests.sample import tasks
from tests.sample.commands.kept import Keep, KeepSecondTime, KeepWithOptions
from tests.sample.commands.notes import Fail, WriteNote
from tests.sample.models import Folder, Note, Parcel

ROOT = Path(__file__).resolve().parent
VERSION = jobs.__version__

A_MONTH = 30 * 24 * 3_600.0  # seconds that samples are old when they are made: what waits for a time in them is due
PASSING = (
    "jobs:lease:",
    "jobs:doormen:",
    "jobs:bell:",
    "jobs:recall:",
    "jobs:workers",
    "jobs:heard",
    "jobs:silence",
    "rq:scheduler_lock",
)  # what begins with these ends by itself in seconds
PARCEL = UUID("6f9619ff-8b86-d011-b42d-00c04fc964ff")


def records() -> None:
    """The records that the samples refer to."""
    Note.objects.get_or_create(pk=1, defaults={"text": "sample"})
    Parcel.objects.get_or_create(pk=PARCEL)
    Folder.objects.get_or_create(pk="a:b")


def values() -> dict[str, Any]:
    """A value of every kind that an argument can be. Names are for reading alone."""
    return {
        "none": None,
        "true": True,
        "integer": -7,
        "large integer": 2**64,
        "float": 0.1,
        "text": "ä\u2028\U0001f600",
        "long text": "abc" * 1_000,
        "bytes": b"\x00\xff",
        "list": [1, [2]],
        "tuple": (1, "a"),
        "set": {3, 1},
        "frozenset": frozenset({"b", "a"}),
        "dict": {"a": {"b": 1}},
        "dict of other keys": {1: "one", (2, 3): "pair"},
        "dict of a key like a tag": {"$record": "no reference"},
        "datetime": datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris")),
        "datetime in UTC": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        "naive datetime": datetime(2026, 1, 2, 3, 4, 5),
        "date": date(2026, 1, 2),
        "time": time(23, 59, 1, 2),
        "timedelta": timedelta(days=-1, microseconds=5),
        "decimal": Decimal("1.20"),
        "uuid": PARCEL,
        "range": range(1, 9, 2),
        "enum": Note.Mood.LOUD,
        "subclass of str": mark_safe("<b>"),
        "model": Note,
        "command": WriteNote,
        "record": Note.objects.get(pk=1),
        "record of a UUID": Parcel.objects.get(pk=PARCEL),
        "record of a text": Folder.objects.get(pk="a:b"),
    }


# --- scenes: each leaves something in an empty server; `worker` runs what it is to have run before ------------


def arguments(worker: Any) -> None:
    for value in values().values():
        Keep.defer(value)
    Keep.defer(value="named", other=(1, 2))


def options(worker: Any) -> None:
    with (
        Mandate.context(request_id="7f3a", note=Note.objects.get(pk=1)),
        translation.override("de"),
        timezone.override("Asia/Kolkata"),
    ):
        KeepWithOptions.defer("with options")
    Keep.using(queue="critical").defer("elsewhere")


def scheduled(worker: Any) -> None:
    Keep.defer("later", wait=60)
    Keep.defer_many([("first",), ("second",)], wait=60, spread=10)


def waiting(worker: Any) -> None:
    first = Keep.defer("first")
    second = Keep.defer("second", wait=60, prereq_jobs=[first])
    Keep.defer("third", prereq_jobs=[first, second.id])
    Keep.defer("whatever", prereq_jobs=[Fail.defer()], prereq_failure="run")


def retried(worker: Any) -> None:
    KeepSecondTime.defer("retry")
    worker.step()


def requeued(worker: Any) -> None:
    KeepSecondTime.defer("requeue")
    worker.step()


def claimed(worker: Any) -> None:
    Keep.defer("claimed")
    worker.claim()


def dead(worker: Any) -> None:
    Fail.defer("as planned")
    worker.run()


def finished(worker: Any) -> None:
    Keep.defer((Note.objects.get(pk=1), Decimal("0.10")))
    worker.run()


def cancelled(worker: Any) -> None:
    first = Keep.defer("first", wait=60)
    control.cancel(Keep.defer("second", prereq_jobs=[first]), "changed my mind")


def recurring(worker: Any) -> None:
    scheduler.add(Entry("every minute", Keep, args=("recurring",), every=60))
    scheduler.add(Entry("at night", Keep, args=("at night",), cron="30 2 * * *", timezone="Europe/Berlin"))
    scheduler.pause("at night")


def direct(worker: Any) -> None:
    tasks.add.enqueue(2, right=5)


SCENES = [
    *(arguments, options, scheduled, waiting, retried, requeued, claimed, dead, finished, cancelled, recurring),
    direct,
]


# --- as files --------------------------------------------------------------------------------


def folder(version: str) -> Path:
    return ROOT / "payloads" / version


def versions() -> list[str]:
    return sorted(each.name for each in (ROOT / "payloads").iterdir())


def dump() -> dict[str, Any]:
    """All that lies in the server, by key: its type and its value."""
    client = get_connection("default")
    keys = sorted(key for key in client.scan_iter(count=1_000) if not key.decode().startswith(PASSING))
    return {_text(key): _dumped(client, key) for key in keys}


def _dumped(client: Redis, key: bytes) -> list[Any]:
    kind = client.type(key).decode()
    if kind == "hash":
        return [kind, {_text(name): _text(value) for name, value in sorted(client.hgetall(key).items())}]
    if kind == "list":
        return [kind, [_text(each) for each in client.lrange(key, 0, -1)]]
    if kind == "set":
        return [kind, sorted(_text(each) for each in client.smembers(key))]
    if kind == "zset":
        return [kind, [[_text(each), score] for each, score in client.zrange(key, 0, -1, withscores=True)]]
    if kind == "stream":
        entries = [(at, _anywhere(fields)) for at, fields in client.xrange(key)]
        return [kind, [[_text(at), {_text(n): _text(v) for n, v in fields.items()}] for at, fields in entries]]
    assert kind == "string", f"{key!r} is a {kind}"
    return [kind, _text(client.get(key))]


def _anywhere(result: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The same; in its traceback the project lies where an image has it, not where this one does."""
    if b"exc_string" not in result:
        return result
    told = zlib.decompress(base64.b64decode(result[b"exc_string"]))
    placed = told.replace(str(ROOT.parent.parent).encode(), b"/app")
    return result | {b"exc_string": base64.b64encode(zlib.compress(placed))}


def load(sample: dict[str, Any]) -> None:
    """Write it all into the server, as it was."""
    client = get_connection("default")
    for key, (kind, value) in sample.items():
        if kind == "hash":
            client.hset(key, mapping={name: _bytes(each) for name, each in value.items()})
        elif kind == "list":
            client.rpush(key, *map(_bytes, value))
        elif kind == "set":
            client.sadd(key, *map(_bytes, value))
        elif kind == "zset":
            client.zadd(key, {_bytes(member): score for member, score in value})
        elif kind == "stream":
            for at, fields in value:
                client.xadd(key, {name: _bytes(each) for name, each in fields.items()}, id=at)
        else:
            client.set(key, _bytes(value))


def _text(value: bytes) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:  # compressed
        return {"base64": base64.b64encode(value).decode()}


def _bytes(value: Any) -> bytes:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value.encode()


def form(sample: dict[str, Any]) -> dict[str, Any]:
    """What of a sample is the release's and not the day's: keys, types, names of fields, payloads."""
    kept: dict[str, Any] = {}
    for key, (kind, value) in sample.items():
        plain = re.sub(r"[0-9a-f-]{36}", "<id>", re.sub(r"jobs:(counts|errors):\d+", r"jobs:\1:<time>", key))
        fields = sorted(value) if kind == "hash" and not key.startswith("jobs:counts") else []
        data = value.get("data") if kind == "hash" else None
        kept.setdefault(plain, []).append(json.dumps([kind, fields, data]))
    return {key: sorted(forms) for key, forms in kept.items()}


def write(name: str, sample: dict[str, Any]) -> None:
    to = folder(VERSION)
    to.mkdir(parents=True, exist_ok=True)
    (to / f"{name}.json").write_text(json.dumps(sample, indent=1, ensure_ascii=True) + "\n")


def read(version: str, name: str) -> dict[str, Any]:
    return json.loads((folder(version) / f"{name}.json").read_text())
