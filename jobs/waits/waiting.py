"""`job.wait` and `job.await_result`: refused where they could never return, else until the job has ended."""

import asyncio
import time
from asyncio import _get_running_loop
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from datetime import timedelta
from math import inf
from typing import Any

from asgiref.sync import sync_to_async
from django.db import DatabaseError
from redis import Redis

from jobs import runtime
from jobs.broker import keys
from jobs.broker.connections import reaching, run_script
from jobs.errors import WaitRefusedError, WaitTimeoutError
from jobs.outbox import rows
from jobs.record import registry
from jobs.record.states import ENDED
from jobs.retries import seconds_of
from jobs.waits import listener
from jobs.waits.end import READ, End, job_text, no_result, places, words
from jobs.waits.listener import Waiter

Timeout = float | timedelta | None

# Called before a wait, with the job. A worker's process sets it, to warn of waits for its own jobs.
before_wait: Callable[[Any], None] = lambda job: None  # noqa: E731


def wait(job: Any, timeout: Timeout) -> Any:
    """See `MandateJob.wait`."""
    refuse_on_loop(job_text(job), "job.wait()", "job.await_result()")
    return until_end(job, timeout).value(job)


async def await_result(job: Any, timeout: Timeout) -> Any:
    """See `MandateJob.await_result`."""
    end = await await_end(job, timeout)
    return await sync_to_async(end.value)(job) if end.result else end.value(job)


def refuse_on_loop(what: str, called: str, instead: str) -> None:
    """Raise WaitRefusedError on an event loop. `called`: what would block it; `instead`: what to await."""
    if _get_running_loop() is not None:
        raise WaitRefusedError(
            f"{what} cannot be waited for here: {called} would block the event loop. Use `await {instead}`."
        )


def until_end(job: Any, timeout: Timeout) -> End:
    """
    Return the end of a job, or of what stands for a batch as a job does. Raises ValueError, WaitRefusedError,
    WaitTimeoutError and RedisUnavailableError.
    """
    limit = _limit(timeout)
    _check(job)
    if _is_in_memory(job):
        return _perform(job)
    until = time.monotonic() + limit
    if (end := _read(job)) is not None:  # a job that has ended needs no thread and no connection
        return end
    while True:
        waiter = Waiter(job)
        server = listener.begin(waiter)
        try:
            answer = _result(waiter.future, until - time.monotonic())
        except TimeoutError:
            raise _too_late(job, limit) from None
        finally:
            server.drop(waiter)
        if (end := _end(job, waiter, answer)) is not None:
            return end


def _result(future: "Future[End | None]", seconds: float) -> End | None:
    for part in runtime.slices(seconds):
        wait_for([future], None if part == inf else part)
        if future.done():
            break
    return future.result(0)


async def await_end(job: Any, timeout: Timeout) -> End:
    """`until_end` for async code."""
    limit = _limit(timeout)
    _check(job)
    if _is_in_memory(job):
        return await sync_to_async(_perform)(job)
    until = time.monotonic() + limit
    if not limit and (end := await sync_to_async(_read, thread_sensitive=False)(job)) is not None:
        return end
    while True:
        waiter = Waiter(job)
        server = listener.begin(waiter)
        try:
            left = None if limit == inf else max(0.0, until - time.monotonic())
            answer = await asyncio.wait_for(asyncio.wrap_future(waiter.future), left)
        except TimeoutError:
            raise _too_late(job, limit) from None
        finally:
            server.drop(waiter)
        if (end := _end(job, waiter, answer)) is not None:
            return end


def _read(job: Any) -> End | None:
    """Read the end of a job; None if it has not ended."""
    is_known = job.is_written  # before the answer: another thread may write the job meanwhile
    with reaching(job.connection):
        end = End(*run_script(job.connection, READ, places(job.id), words(job.id)))
    return end if end.settles(is_known=is_known) and not end.other else None


def _end(job: Any, waiter: Waiter, answer: End | None) -> End | None:
    """Return the answer to a wait; None if another job is to be waited for, of which this one is a duplicate."""
    assert answer is not None  # noqa: S101
    if answer.other:
        job.become(answer.other)
    return answer if job.id == waiter.job_id else None


async def change(job: Any, seconds: float) -> None:
    """Return when the job reports anything or ends, after so many seconds at the latest. Raises nothing."""
    if _is_in_memory(job):
        await asyncio.sleep(seconds)
        return
    waiter = Waiter(job, reports=True)
    server = listener.begin(waiter)
    try:
        await asyncio.wait_for(asyncio.wrap_future(waiter.future), seconds)
    except TimeoutError:
        pass
    except listener.ERRORS:  # no answer from Redis: not again at once
        await asyncio.sleep(seconds)
    finally:
        server.drop(waiter)


def _limit(timeout: Timeout) -> float:
    if timeout is None:
        return inf
    if not seconds_of(timeout) >= 0:
        raise ValueError(f"timeout={timeout!r} is impossible. Give seconds, 0 or more, a timedelta, or None.")
    return seconds_of(timeout)


def _check(job: Any) -> None:
    """Refuse a wait that could never return."""
    if not job.is_written and job.block is not None:
        job.block.refuse_wait(job_text(job))
    if not job.is_written and job.transactions is not None:
        if _is_open(job.transactions):
            raise WaitRefusedError(
                f"{job_text(job)} cannot be waited for: it is written when the open transaction of the database "
                f"{job.transactions.aliases[0]!r} commits, and that waits for this call. Wait after the transaction."
            )
        if job.transactions.are_over and not (job.is_durable and _may_run(job)):
            raise WaitRefusedError(f"{job_text(job)} does not exist: its transaction was rolled back.")
    try:
        command: Any = registry.get(job.command_name)
    except Exception:  # a plain RQ job, of another release, or one whose payload cannot be read
        command = None
    if command is not None and command.result_ttl == 0:
        raise no_result(job)
    before_wait(job)


def _may_run(job: Any) -> bool:
    """Whether the outbox has a durable job, or Redis has or had it. The outbox first: jobs go from there to Redis."""
    if _get_running_loop() is not None:
        return True
    places = keys.job(job.id), keys.sent(job.id), keys.gone(job.id)
    row, places = getattr(job, "whereabouts", (job.id, places))  # a batch has others
    try:
        is_unsent = rows.find(row) is not None
    except DatabaseError:
        return True  # not known just now
    with reaching(job.connection):
        return is_unsent or job.connection.exists(*places) > 0


def _is_open(transactions: runtime.Transactions) -> bool:
    """Whether one of them is still open in the caller's thread, or in the one that waits for the caller's coroutine."""
    return any(
        connection.alias in transactions.aliases and connection._thread_ident == transactions.thread
        for connection in runtime.open_transactions()
    )


def _too_late(job: Any, limit: float) -> WaitTimeoutError:
    return WaitTimeoutError(f"{job_text(job)} has not ended within {limit:g} s. It goes on; wait again, or cancel it.")


# --- the testing kit -------------------------------------------------------------------------


def _is_in_memory(job: Any) -> bool:
    return runtime.stand_in is not None and not isinstance(job.connection, Redis)


def _perform(job: Any) -> End:
    """Perform what is due, as often as it takes. Raises WaitTimeoutError if the job has not ended then."""
    with reaching(job.connection):
        job.connection.perform_until_ended(job.id)
        end = End(*run_script(job.connection, READ, places(job.id), words(job.id)))
    if end.other:
        job.become(end.other)
        return _perform(job)
    if not end.is_over and end.has_record:
        state = job.state
        assert state not in ENDED  # noqa: S101
        raise WaitTimeoutError(
            f"{job_text(job)} is {state}, and nothing that is due is left to perform. Move the clock on first, with "
            "`jobs.travel(...)`, or perform what it waits for."
        )
    return end
