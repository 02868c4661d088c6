"""Interrupts: where they may be raised, where they never are, and their effects."""

import asyncio
import itertools
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError, connection, connections, transaction

from jobs import Mandate
from jobs.attempts import interrupt, running_query
from jobs.attempts.interrupt import Interruptible, TimedOut
from jobs.steps.running import RequeueRequested
from tests.jobs.worker import eventually
from tests.sample.models import Note

LOCK = threading.Lock()

# As a library in site-packages: its code is none of the project's.
library = types.ModuleType("library")
exec(  # noqa: S102
    compile(
        """
import threading
lock, inside, go_on = threading.Lock(), threading.Event(), threading.Event()

def hold(callback=None):
    with lock:
        inside.set()
        while not go_on.is_set():
            pass
        if callback:
            callback()

def call(callback):
    lock.acquire()
    callback()
    lock.release()

def turn(switch):
    while not switch.is_set():
        pass
""",
        "/usr/lib/python3/site-packages/library.py",
        "exec",
    ),
    vars(library),
)


class Attempt:
    """A call in a thread of its own, as a worker's thread makes it."""

    def __init__(self, call: Callable[[], Any], *, how: str = "run") -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self._interruptible, self._claim = Interruptible(), object()
        self._thread = threading.Thread(target=self._run, args=(call, how))
        self._thread.start()

    def _run(self, call: Callable[[], Any], how: str) -> None:
        try:
            self.result = getattr(self._interruptible, how)(self._claim, call)
        except BaseException as error:
            self.error = error
        finally:
            connections.close_all()

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def interrupt(self) -> bool:
        """Interrupt it, as the main thread does every few milliseconds. Returns True the first time."""
        return self._interruptible.interrupt(self._claim, TimedOut)

    def until_over(self) -> "Attempt":
        """Interrupt until it has ended."""
        eventually(lambda: self.interrupt() is None or self.is_over)
        self._thread.join()
        return self

    def awaits_database(self) -> bool:
        """Whether it is in the query that does not end."""
        frame = sys._current_frames().get(self._thread.ident)
        names = {each.f_code.co_name for each, _ in traceback.walk_stack(frame)}
        is_connecting = "ensure_connection" in names  # which awaits the database, too
        return {"query_for_ever", "execute"} <= names and not is_connecting and running_query.awaited(frame) is not None

    def persist(self, looks: int = 50) -> None:
        """Interrupt for a while, during which it makes progress."""
        for _ in range(looks):
            self.interrupt()
            self._thread.join(0.001)


@pytest.fixture
def switch() -> threading.Event:
    return threading.Event()


@pytest.fixture(autouse=True)
def fresh_library():
    library.inside.clear()
    library.go_on.clear()
    yield
    assert library.lock.acquire(timeout=1), "the library's lock is held"
    library.lock.release()
    assert LOCK.acquire(timeout=1), "the project's lock is held"
    LOCK.release()


# --- where it comes ----------------------------------------------------------------------------


def spin():
    while True:
        pass


def sleep():
    while True:
        time.sleep(0.001)


def swallow_exceptions():
    while True:
        try:
            sum(range(100))
        except Exception:  # noqa: S112
            continue


def hold_with():
    while True:
        with LOCK:
            time.sleep(0)


def hold_and_try():
    while True:
        LOCK.acquire()
        try:
            time.sleep(0)
        finally:
            LOCK.release()


def hold_if_acquired():
    while True:
        is_held = LOCK.acquire(timeout=1)
        if is_held:
            try:
                time.sleep(0)
            finally:
                LOCK.release()


class Held:
    def __enter__(self):
        LOCK.acquire()
        self.is_held = True
        self.number = 1

    def __exit__(self, *error):
        self.number = 2
        LOCK.release()


@contextmanager
def held():
    LOCK.acquire()
    try:
        yield
    finally:
        LOCK.release()


def hold_by_class():
    while True:
        with Held():
            time.sleep(0)


def hold_by_generator():
    while True:
        with held():
            time.sleep(0)


def release_by_function():
    while True:
        LOCK.acquire()
        try:
            time.sleep(0)
        finally:
            let_go()


def let_go():
    for _ in range(3):
        time.sleep(0)
    LOCK.release()


@contextmanager
def nothing():
    yield


@nothing()
def decorated():
    spin()


def in_except():
    try:
        raise ValueError
    except ValueError:
        spin()


def recurse(depth=200):
    if depth:
        recurse(depth - 1)
    while True:
        pass


def in_expression():
    return [sum(n * n for n in range(10)) for _ in iter(int, 1)]


def loop_in_try():
    LOCK.acquire()
    try:
        for n in itertools.count(): n + 1  # noqa: E701  # fmt: skip
    finally:
        LOCK.release()


def continue_in_with():
    while True:
        with LOCK:
            for n in range(1_000):
                if n:
                    continue


def take():
    LOCK.acquire()
    number = 1
    return number


def acquire_in_function():
    while True:
        take()
        try:
            time.sleep(0)
        finally:
            LOCK.release()


class HeldByAlias:
    def close(self, *error):
        LOCK.release()

    __enter__, __exit__ = lambda self: take(), close


def hold_by_alias():
    while True:
        with HeldByAlias():
            time.sleep(0)


WAYS = [
    loop_in_try,
    continue_in_with,
    acquire_in_function,
    hold_by_alias,
    spin,
    sleep,
    swallow_exceptions,
    hold_with,
    hold_and_try,
    hold_if_acquired,
    hold_by_class,
    hold_by_generator,
]
WAYS += [release_by_function, decorated, in_except, recurse, in_expression]


@pytest.mark.parametrize("call", WAYS, ids=lambda call: call.__name__)
def test_an_interrupt_is_raised_inside_the_call_and_leaves_nothing_held(call):
    for _ in range(20):
        attempt = Attempt(call).until_over()

        assert isinstance(attempt.error, TimedOut)
        assert LOCK.acquire(timeout=1)
        LOCK.release()


@pytest.mark.django_db(transaction=True)
def test_an_interrupt_is_raised_in_a_command_that_another_one_runs(own_commands):
    class Inner(Mandate):
        @transaction.atomic
        def call(self):
            spin()

    class Outer(Mandate):
        def call(self):
            Inner.run()

    attempt = Attempt(Outer().call).until_over()
    assert isinstance(attempt.error, TimedOut)


def test_its_traceback_ends_in_the_jobs_own_code():
    trace = Attempt(spin).until_over().error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    assert trace.tb_frame.f_code is spin.__code__


# --- where it does not come --------------------------------------------------------------------


def test_it_waits_until_a_library_has_returned(switch):
    def call():
        library.hold()
        switch.set()
        spin()

    attempt = Attempt(call)
    library.inside.wait()
    attempt.persist()
    assert library.lock.locked()
    library.go_on.set()
    attempt.until_over()

    assert isinstance(attempt.error, TimedOut)
    assert not library.lock.locked()


def test_no_interrupt_is_raised_in_code_that_a_library_calls(switch):
    def call_back():
        switch.set()
        while not library.go_on.is_set():
            pass

    def call():
        library.call(call_back)
        spin()

    attempt = Attempt(call)
    switch.wait()
    attempt.persist()
    library.go_on.set()
    attempt.until_over()

    assert isinstance(attempt.error, TimedOut)


@pytest.mark.parametrize("place", ["finally", "enter", "exit", "del"])
def test_no_interrupt_is_raised_where_the_code_sets_up_or_cleans_up(place, switch):
    done = []

    class Step:
        def __enter__(self):
            if place == "enter":
                linger()

        def __exit__(self, *error):
            if place == "exit":
                linger()

        def __del__(self):
            if place == "del":
                linger()

    def linger():
        switch.set()
        while not library.go_on.is_set():
            pass
        done.append(place)

    def call():
        try:
            with Step():
                pass
        finally:
            if place == "finally":
                linger()
        spin()

    attempt = Attempt(call)
    switch.wait()
    attempt.persist()
    assert not attempt.is_over
    library.go_on.set()
    attempt.until_over()

    assert isinstance(attempt.error, TimedOut)
    assert done == [place]


def test_what_has_ended_is_not_interrupted():
    attempt = Attempt(lambda: "done")
    eventually(lambda: attempt.is_over)
    assert not attempt.interrupt()
    assert attempt.result == "done"


def test_nothing_is_switched_on_once_the_call_has_ended():
    Attempt(spin).until_over()
    assert sys.gettrace() is threading.gettrace()
    if sys.version_info >= (3, 12):
        from jobs.attempts import raising

        watcher = raising._watcher
        assert sys.monitoring.get_local_events(watcher._tool, spin.__code__) == 0
        assert not watcher._users


# --- what becomes of it ------------------------------------------------------------------------


def test_what_swallows_it_gets_it_again(monkeypatch):
    monkeypatch.setattr(interrupt, "RESEND", 0.01)
    seen = []

    def call():
        while len(seen) < 3:
            try:
                spin()
            except BaseException as error:
                seen.append(error)
        return "done"

    attempt = Attempt(call).until_over()
    assert [type(error) for error in seen] == [TimedOut] * 3
    assert attempt.result == "done"


def test_an_interrupt_leaves_a_second_to_clean_up():
    begun = []

    def call():
        try:
            spin()
        except TimedOut:
            begun.append(time.monotonic())
            try:
                spin()
            finally:
                begun.append(time.monotonic())

    Attempt(call).until_over()
    assert begun[1] - begun[0] >= interrupt.RESEND - 0.5  # the second counts from when the first was sent


def test_an_error_that_came_of_it_has_it_in_its_place():
    def call():
        try:
            spin()
        except BaseException as error:
            raise KeyError("in the clean-up") from error

    attempt = Attempt(call).until_over()
    assert isinstance(attempt.error, TimedOut)
    assert isinstance(attempt.error.__cause__, KeyError)


def test_a_requeue_in_answer_to_an_interrupt_counts():
    def call():
        try:
            spin()
        except TimedOut:
            raise RequeueRequested(3) from None

    assert isinstance(Attempt(call).until_over().error, RequeueRequested)


def test_an_error_raised_before_the_interrupt_stays(switch):
    def call():
        library.turn(switch)
        raise KeyError("its own")

    attempt = Attempt(call)
    attempt.persist()
    switch.set()
    attempt.until_over()
    assert isinstance(attempt.error, KeyError | TimedOut)  # at the line that raises it is interrupted, perhaps


# --- async -------------------------------------------------------------------------------------


async def await_long():
    await asyncio.sleep(1_000)


async def await_tasks():
    async with asyncio.TaskGroup() as group:
        group.create_task(await_long())
        group.create_task(await_long())


async def spin_async():
    while True:
        pass


async def await_threads():
    while True:
        await sync_to_async(time.sleep)(0.001)


@pytest.mark.parametrize("how", ["run_async", "run_in_loop"])
@pytest.mark.parametrize("call", [await_long, await_tasks, spin_async, await_threads], ids=lambda call: call.__name__)
def test_a_coroutine_is_interrupted_while_it_awaits_and_while_it_computes(call, how):
    attempt = Attempt(call, how=how).until_over()
    assert isinstance(attempt.error, TimedOut)


# --- databases ---------------------------------------------------------------------------------

FOR_EVER = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
    "postgresql": "SELECT pg_sleep(1000)",
    "mysql": "SELECT 1 FROM (SELECT 1 UNION SELECT 2) AS two WHERE SLEEP(1000)",
}


def query_for_ever():
    with connection.cursor() as cursor:
        cursor.execute(FOR_EVER[connection.vendor])


def query_in_transaction():
    with transaction.atomic():
        Note.objects.create(text="rolled back")
        query_for_ever()


async def query_async():
    await sync_to_async(query_for_ever)()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("call", [query_for_ever, query_in_transaction, query_async], ids=lambda call: call.__name__)
def test_a_database_that_is_waited_for_is_asked_to_stop(call):
    is_async = asyncio.iscoroutinefunction(call)
    attempt = Attempt(call, how="run_async" if is_async else "run")
    eventually(attempt.awaits_database)
    attempt.until_over()

    assert isinstance(attempt.error, TimedOut)
    if not is_async:
        assert isinstance(attempt.error.__cause__, OperationalError)
    assert not Note.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_connections_are_closed_for_good_before_anything_else_uses_them(switch):
    found = []

    def call():
        with transaction.atomic():
            Note.objects.create(text="rolled back")
            found.append((connection.connection, connections["default"]))
            switch.set()
            spin()

    def run():
        with pytest.raises(TimedOut):
            interruptible.run(claim, call)
        Note.objects.create(text="after")
        found.append((connection.connection, connections["default"]))
        connections.close_all()

    interruptible, claim = Interruptible(), object()
    worker = threading.Thread(target=run)
    worker.start()
    switch.wait()
    eventually(lambda: interruptible.interrupt(claim, TimedOut) is None or not worker.is_alive())
    (raw, wrapper), (new_raw, new_wrapper) = found
    assert new_raw is not raw
    assert new_wrapper is not wrapper
    assert [note.text for note in Note.objects.all()] == ["after"]
