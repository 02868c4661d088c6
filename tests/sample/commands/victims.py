"""
Commands that go on until they are interrupted, each in code that an interrupt at the wrong moment would spoil; and
`Probe`, which finds out whether it was spoilt.
"""

import asyncio
import importlib
import itertools
import logging
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import urllib3
from asgiref.sync import sync_to_async
from django.core.cache.backends.locmem import LocMemCache
from django.db import connection, transaction
from django.urls import clear_url_caches, reverse

from jobs import Mandate
from jobs.tasks import task
from tests.sample.models import Note

logger = logging.getLogger("victims")
LOCK, RLOCK, CONDITION, SEMAPHORE = threading.Lock(), threading.RLock(), threading.Condition(), threading.Semaphore(2)
POOL = urllib3.PoolManager(maxsize=2, block=True)
CACHE = LocMemCache("victims", {})
MODULES = itertools.cycle(
    ["colorsys", "sched", "stringprep", "rlcompleter", "tabnanny", "pyclbr", "netrc", "this_is_not"]
)
OWN = threading.local()  # modules that two threads take out of `sys.modules` at once confuse importlib


class Held:
    """A context manager of the project's own."""

    def __enter__(self) -> None:
        SEMAPHORE.acquire()
        self.held = True

    def __exit__(self, *error: object) -> None:
        self.held = False
        SEMAPHORE.release()


@contextmanager
def held() -> Iterator[None]:
    SEMAPHORE.acquire()
    try:
        yield
    finally:
        SEMAPHORE.release()


def log(address: str) -> None:
    logger.info("a line %s", "x" * 80)


def import_anew(address: str) -> None:
    name = OWN.module = getattr(OWN, "module", None) or next(MODULES)
    sys.modules.pop(name, None)
    with suppress(ModuleNotFoundError):
        importlib.import_module(name)


def commit(address: str) -> None:
    with transaction.atomic():
        Note.objects.create(text="victim")


def nest(address: str) -> None:
    with transaction.atomic():
        Note.objects.create(text="victim")
        try:
            with transaction.atomic():
                Note.objects.create(text="victim")
                with transaction.atomic():
                    Note.objects.filter(text="victim").count()
                raise RuntimeError
        except RuntimeError:
            pass


def query(address: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM sample_note WHERE text = %s", ["victim"])
        cursor.fetchall()


def orm(address: str) -> None:
    for note in Note.objects.order_by("-pk")[:5]:
        Note.objects.filter(pk=note.pk).update(text=note.text)


def lock(address: str) -> None:
    LOCK.acquire()
    try:
        time.sleep(0)
    finally:
        LOCK.release()
    with RLOCK, CONDITION:
        time.sleep(0)
    with Held(), held():
        time.sleep(0)


def wait_for_lock(address: str) -> None:
    acquired = LOCK.acquire(timeout=0.01)
    if acquired:
        try:
            sum(range(1_000))
        finally:
            LOCK.release()
    with CONDITION:
        CONDITION.wait(0.001)


def find_url(address: str) -> None:
    clear_url_caches()
    reverse("admin:index")


def cache(address: str) -> None:
    CACHE.set("number", random.random())
    CACHE.incr("count") if CACHE.get("count") else CACHE.set("count", 1)


def request(address: str) -> None:
    POOL.request("GET", address, timeout=5, retries=False)


def wait(address: str) -> None:
    time.sleep(0.01)


WAYS: dict[str, Callable[[str], None]] = {
    each.__name__: each
    for each in (*(log, import_anew, commit, nest, query, orm, lock, wait_for_lock, find_url, cache, request, wait),)
}


class Victim(Mandate):
    retries = 0
    result_ttl = 86_400
    timeout = 60
    way: str
    address: str

    def call(self) -> None:
        way = WAYS[self.way]
        while True:
            way(self.address)

    def on_dead(self, error: BaseException) -> None:
        Note.objects.create(text=f"hook {self.job.id}")


class VictimInTransaction(Victim):
    @transaction.atomic
    def call(self) -> None:
        super().call()


class VictimAsync(Victim):
    async def call(self) -> None:
        way = WAYS[self.way]
        while True:
            await sync_to_async(way)(self.address)
            await asyncio.sleep(0)


class VictimWaits(Victim):
    async def call(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(asyncio.sleep(100))


def go_on(way: str, address: str) -> None:
    """A plain RQ function."""
    while True:
        WAYS[way](address)


async def go_on_async(way: str, address: str) -> None:
    """A plain RQ function that awaits."""
    while True:
        await asyncio.sleep(0.001)


@task
def go_on_as_task(way: str, address: str) -> None:
    go_on(way, address)


@task
async def go_on_as_async_task(way: str, address: str) -> None:
    await go_on_async(way, address)


class Probe(Mandate):
    """Uses all that the victims use; returns the seconds that took."""

    queue = "critical"
    retries = 0
    result_ttl = 86_400
    timeout = 30
    number: int
    address: str

    def call(self) -> float:
        begun = time.monotonic()
        for way in WAYS.values():
            way(self.address)
        if transaction.get_connection().in_atomic_block:
            raise RuntimeError("a transaction is open")
        Note.objects.create(text=f"probe {self.number}")
        return time.monotonic() - begun
