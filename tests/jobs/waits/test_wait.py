"""A wait returns what `call` has returned, or raises why there is none; where it could never end, it is refused."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction

from jobs import MandateJob, control
from jobs.attempts.outcomes import Finished
from jobs.broker import keys
from jobs.broker.connections import get_connection, run_script
from jobs.errors import (
    JobFailedError,
    RedisUnavailableError,
    ResultUnavailableError,
    WaitRefusedError,
    WaitTimeoutError,
)
from jobs.outbox import hooks
from jobs.outbox.relay import send_all
from jobs.waits import listener
from jobs.waits import waiting as waits
from jobs.waits.end import READ, End, places, words
from jobs.waits.listener import Waiter
from tests.jobs.worker import eventually
from tests.sample.commands.acts import Act
from tests.sample.commands.durable import KeepRow
from tests.sample.commands.kept import KeepSecondTime
from tests.sample.commands.notes import Fail, WriteNote
from tests.sample.commands.talk import Echo
from tests.sample.commands.trouble import HopelessError
from tests.sample.commands.waiting import Forget, Lose, WaitFor
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def waiting():
    """`waiting(job)`: a wait in a thread of its own that has begun; its `result()`."""
    with ThreadPoolExecutor() as threads:

        def start(job, timeout=30.0):
            future = threads.submit(job.wait, timeout)
            eventually(lambda: noted(job) or future.done())
            return future

        yield start


def noted(job):
    return get_connection("default").scard(keys.waiters(job.id))


def test_a_wait_is_woken_by_the_end_and_has_the_typed_value(worker, waiting):
    value = {"at": datetime(2026, 1, 2, tzinfo=UTC), "sum": Decimal("1.50"), "parts": (1, 2)}
    wait = waiting(job := Echo.defer(value))

    worker.run()

    assert wait.result(5) == value
    assert not noted(job)
    assert job.wait(0.5) == value  # once more, now that it has ended


def test_records_in_the_value_are_fetched(worker):
    note = Note.objects.create(text="here")
    job = Echo.defer([note])
    worker.run()
    assert job.wait(5) == [note]
    assert async_to_sync(job.await_result)(5) == [note]


def test_a_value_of_none_is_one(worker):
    job = Echo.defer(None)
    worker.run()
    assert job.wait(5) is None


def test_several_waits_for_one_job_and_for_several(worker, waiting):
    jobs = [Echo.defer(number) for number in range(3)]
    waits = [waiting(job) for job in jobs for _ in range(2)]
    worker.run()
    assert [wait.result(5) for wait in waits] == [0, 0, 1, 1, 2, 2]


def test_of_the_jobs_that_end_in_one_step_those_that_are_waited_for_wake_their_waits(worker, waiting):
    jobs = [Echo.defer(number) for number in range(5)]
    wait = waiting(jobs[3])
    worker.fetch._threads = len(jobs)
    claims = [worker.claim(), *worker.fetch._ready]
    for claim in claims:
        worker.fetch.commits.add(claim, Finished(b'"together"', 500), "sample.Echo", 0.0)
    worker.fetch._step(claims=False)
    assert len(claims) == len(jobs)
    assert wait.result(5) == "together"


@pytest.mark.parametrize(
    ("end", "state", "reason"),
    [
        (lambda job, worker: worker.run(), "dead", "RuntimeError: no luck"),
        (lambda job, worker: control.cancel(job), "cancelled", "cancelled"),
        (lambda job, worker: control.delete(job), "deleted", "deleted"),
    ],
    ids=["dead", "cancelled", "deleted"],
)
def test_a_job_that_does_not_finish_raises_how_it_ended(end, state, reason, worker, waiting):
    wait = waiting(job := Fail.defer())

    end(job, worker)

    with pytest.raises(JobFailedError) as error:
        wait.result(5)
    assert (error.value.job_id, error.value.state) == (job.id, state)
    assert reason in error.value.reason
    assert str(error.value).startswith(f"Job {job.id} of sample.Fail ")


def hopeless(command):
    raise HopelessError("no")


def test_a_discarded_job_is_one_that_has_failed(worker, waiting, monkeypatch):
    monkeypatch.setattr(Act, "play", hopeless, raising=False)
    wait = waiting(Act.defer())
    worker.run()
    with pytest.raises(JobFailedError, match="is discarded: HopelessError"):
        wait.result(5)


@pytest.mark.parametrize("how", ["fail", "requeue"])
def test_a_retry_is_no_end(how, worker, waiting):
    wait = waiting(KeepSecondTime.defer(how))
    worker.run()
    assert not wait.done()
    worker.hurry().run()
    assert isinstance(wait.result(5), str)


def test_a_wait_ends_at_its_time(worker, waiting):
    job = Echo.defer(1)
    with pytest.raises(WaitTimeoutError, match=f"Job {job.id} of sample.Echo has not ended within 0.05 s"):
        job.wait(timedelta(milliseconds=50))
    with pytest.raises(TimeoutError):
        async_to_sync(job.await_result)(0.05)
    assert not listener._listeners[job.connection]._waiters
    wait = waiting(job)
    assert 0 < get_connection("default").ttl(keys.waiters(job.id)) <= 60  # no key without expiry
    worker.run()
    assert wait.result(20) == 1
    assert job.wait(0.5) == 1


def test_without_time_a_wait_reads_once(worker):
    listener._listeners.clear()
    job = Echo.defer([1])
    with pytest.raises(WaitTimeoutError):
        job.wait(0)
    with pytest.raises(WaitTimeoutError):
        async_to_sync(job.await_result)(0)
    worker.run()
    listener._listeners.clear()
    assert job.wait(0) == [1]
    assert async_to_sync(job.await_result)(0) == [1]
    assert not listener._listeners  # an end that is there needs no thread


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("-inf"), "soon"])
def test_an_impossible_time_is_refused(timeout):
    with pytest.raises(ValueError, match="timeout=.* is impossible"):
        Echo.defer(1).wait(timeout)


def test_a_result_that_could_not_be_kept_is_an_error(worker, settings):
    lost = Lose.defer()
    settings.JOBS = settings.JOBS | {"RESULT_LIMIT": 100}
    large = Echo.defer("x" * 200)
    worker.run()
    with pytest.raises(ResultUnavailableError, match="could not be kept: <object>"):
        lost.wait(5)
    with pytest.raises(ResultUnavailableError, match="<str of 202 bytes, over JOBS"):
        large.wait(5)
    assert lost.return_value() == "<object>"


def test_a_job_that_has_expired_is_an_error_at_once(worker):
    job = Echo.defer(1)
    worker.run()
    get_connection("default").delete(job.key, keys.results(job.id))
    with pytest.raises(ResultUnavailableError, match="has no record any more"):
        job.wait(5)


def test_a_job_whose_key_is_no_hash_is_an_error(worker):
    job = Echo.defer(1)
    get_connection("default").set(job.key, "somebody's")
    with pytest.raises(JobFailedError, match="of another type"):
        job.wait(5)


def test_a_durable_duplicate_is_followed_to_the_job_it_stands_for(worker):
    first = Echo.defer("the first")
    late = MandateJob("late", connection=first.connection)
    late.origin, late.is_written, late.is_durable = "default", False, True
    get_connection("default").set(keys.sent("late"), first.id)
    worker.run()
    assert late.wait(5) == "the first"
    assert late.id == first.id


# --- refused ---------------------------------------------------------------------------------


def test_in_the_transaction_that_defers_it_is_refused_at_once():
    with transaction.atomic():
        job = Echo.defer(1)
        with pytest.raises(WaitRefusedError, match="the open transaction of the database 'default'"):
            job.wait()
        with pytest.raises(WaitRefusedError, match="the open transaction"):
            async_to_sync(job.await_result)()


def test_after_the_transaction_it_waits_and_after_a_rollback_it_is_refused(worker):
    with transaction.atomic():
        job = Echo.defer(1)
    worker.run()
    assert job.wait(5) == 1

    with transaction.atomic():
        lost = Echo.defer(1)
        transaction.set_rollback(True)
    with pytest.raises(WaitRefusedError, match="its transaction was rolled back"):
        lost.wait()


def test_after_a_rollback_a_durable_job_is_refused_too():
    with transaction.atomic():
        lost = KeepRow.defer("x")
        transaction.set_rollback(True)
    with pytest.raises(WaitRefusedError, match="its transaction was rolled back"):
        lost.wait()


@pytest.mark.parametrize("is_back", [False, True])
def test_a_durable_job_that_only_the_outbox_has_is_waited_for(is_back, worker, valkey, waiting):
    """Its transaction has committed, and Redis did not take it; a relay sends it, which the handle does not hear of."""
    hooks._failed.clear()
    valkey.kill()
    with transaction.atomic():
        job = KeepRow.defer("x")
    valkey.start()
    hooks._failed.clear()
    if is_back:
        assert send_all() == 1
    assert not job.is_written
    wait = waiting(job)
    if not is_back:
        assert send_all() == 1
    worker.run()
    assert wait.result(5) is None


def test_a_durable_job_that_is_forgotten_is_not_waited_for(worker):
    with transaction.atomic():
        job = KeepRow.defer("x")
    worker.run()
    get_connection("default").delete(job.key)  # its `result_ttl` is over
    job.is_written = False  # as if a relay had sent it
    with pytest.raises(ResultUnavailableError, match="has no record any more"):
        job.wait()


def test_another_thread_may_wait_for_a_job_before_it_is_written(worker, waiting):
    with transaction.atomic():
        wait = waiting(job := Echo.defer(1))
        assert noted(job)
    worker.run()
    assert wait.result(5) == 1


def test_a_job_that_is_written_just_after_it_was_read_is_no_forgotten_one(monkeypatch):
    def read_and_see_it_written(*args):
        answer = run_script(*args)
        job.is_written = True  # the transaction of another thread has committed
        return answer

    monkeypatch.setattr(waits, "run_script", read_and_see_it_written)
    with transaction.atomic():
        job = Echo.defer(1)
        assert waits._read(job) is None


def test_a_job_that_is_written_just_after_a_wait_has_read_it_is_no_forgotten_one():
    with transaction.atomic():
        job = Echo.defer(1)
        waiter = Waiter(job)
        no_record = End(*run_script(job.connection, READ, places(job.id), words(job.id)))
        job.is_written = True  # the transaction of another thread has committed
        assert not waiter.hear(no_record)
        assert waiter.hear(no_record)  # read again: it is gone


def test_a_command_of_which_nothing_is_kept_is_refused(worker):
    job = Forget.defer()
    with pytest.raises(WaitRefusedError, match="result_ttl = 0"):
        job.wait()
    fetched = Echo.defer(1)
    get_connection("default").hset(fetched.key, "result_ttl", 0)  # by a release in which it was so
    with pytest.raises(WaitRefusedError, match="result_ttl = 0"):
        fetched.wait()


def test_on_an_event_loop_a_wait_that_blocks_is_refused():
    async def view():
        (await Echo.adefer(1)).wait()

    with pytest.raises(WaitRefusedError, match="await job.await_result"):
        asyncio.run(view())


def test_a_job_that_waits_for_one_of_its_own_queues_is_warned_of(worker_process):
    other = Echo.using(wait=600).defer(1)
    job = WaitFor.defer(other.id)
    process = worker_process("default")
    warning = (
        f"job {job.id}, attempt 1) waits for job {other.id} of sample.Echo in the queue 'default', which this worker"
    )
    eventually(lambda: warning in process.output)


# --- coroutines ------------------------------------------------------------------------------


def test_many_coroutines_await_over_one_connection(worker):
    async def main():
        jobs = await asyncio.to_thread(Echo.defer_many, [(number,) for number in range(300)])
        waits = [asyncio.create_task(job.await_result(60)) for job in jobs]
        client = get_connection("default")
        await asyncio.to_thread(lambda: eventually(lambda: len(client.keys("jobs:waiters:*")) == 300))
        (process,) = client.sunion(client.keys("jobs:waiters:*"))
        assert client.pubsub_numsub(keys.woken(process.decode()))[0][1] == 1
        await asyncio.to_thread(worker.run)
        return await asyncio.gather(*waits)

    assert asyncio.run(main()) == list(range(300))
    assert not get_connection("default").keys("jobs:waiters:*")


def test_a_cancelled_coroutine_leaves_nothing_behind(worker):
    async def main():
        job = await Echo.adefer(1)
        wait = asyncio.create_task(job.await_result())
        await asyncio.to_thread(lambda: eventually(lambda: noted(job)))
        wait.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wait
        assert not listener._listeners[job.connection]._waiters
        await asyncio.to_thread(worker.run)
        return await job.await_result(5)

    assert asyncio.run(main()) == 1


# --- outages ---------------------------------------------------------------------------------


def test_without_a_server_a_wait_is_refused_and_one_that_has_begun_goes_on(valkey, worker, waiting):
    job, late = Echo.defer(1), Echo.defer(2)
    wait = waiting(job)
    valkey.kill()
    with pytest.raises(RedisUnavailableError):
        late.wait(10)
    valkey.start()
    eventually(worker.step)
    worker.run()
    assert wait.result(10) == 1


def test_a_lost_message_is_made_good_by_the_next_look(worker, monkeypatch):
    monkeypatch.setattr(listener, "LOOK_EVERY", 0.2)
    listener._listeners.clear()
    job = Echo.defer(1)
    result = {}
    thread = threading.Thread(target=lambda: result.update(value=job.wait(20)))
    thread.start()
    client = get_connection("default")
    eventually(lambda: noted(job))
    client.delete(keys.waiters(job.id))
    worker.run()
    thread.join(20)
    assert result == {"value": 1}


def test_a_process_that_died_while_it_waited_leaves_nothing_but_a_note_until_the_end(worker):
    job = Echo.defer(1)
    client = get_connection("default")
    client.sadd(keys.waiters(job.id), "a-process-that-died")
    worker.run()
    assert job.state == "finished"
    assert not client.exists(keys.waiters(job.id))
    assert job.wait(5) == 1


def test_a_connection_that_is_cut_is_opened_again(worker, waiting):
    wait = waiting(Echo.defer(1))
    client = get_connection("default")
    client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    worker.run()
    assert wait.result(10) == 1


def test_a_forked_process_listens_for_itself(worker, waiting):
    waiting(Echo.defer(1), timeout=30)
    listener._forget()  # as after a fork
    job = Echo.defer(2)
    wait = waiting(job)
    worker.run()
    assert wait.result(5) == 2


def test_a_fetched_job_can_be_waited_for(worker):
    job = WriteNote.defer("x")
    fetched = MandateJob.fetch(job.id, connection=job.connection)
    worker.run()
    assert fetched.wait(5) == Note.objects.get().pk
