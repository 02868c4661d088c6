"""Slices in flight: one is sent before the last one is answered. Stopped at each point, none is lost or twice."""

import threading

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from jobs import queues
from jobs.broker import ahead
from jobs.broker.connections import get_connection
from jobs.errors import PrerequisiteError, RedisUnavailableError
from jobs.queues import get_queue
from tests.sample.commands.limits import OncePerNumber
from tests.sample.commands.notes import WriteNote

pytestmark = pytest.mark.django_db(transaction=True)

JOBS, PER_SLICE = 12, 3


class Cut:
    """Records what one connection sends (`s`) and receives (`r`), and fails at one of these points."""

    def __init__(self, monkeypatch, at=None, error=RedisConnectionError, after=False):
        self.said, self.at, self.error, self.after = "", at, error, after
        for name, letter in (("send_packed_command", "s"), ("read_response", "r")):
            kind = type(get_connection("default").connection_pool._available_connections[-1])
            monkeypatch.setattr(kind, name, self.watched(getattr(kind, name), letter))

    def watched(self, call, letter):
        def calling(connection, *args, **options):
            if threading.current_thread() is not threading.main_thread():
                return call(connection, *args, **options)
            self.said += letter
            fails = len(self.said) == self.at
            if fails and not self.after:
                raise self.fail(connection)
            answer = call(connection, *args, **options)
            if fails:
                raise self.fail(connection)
            return answer

        return calling

    def fail(self, connection):
        connection.disconnect()
        return self.error("cut")


@pytest.fixture
def slices(valkey, monkeypatch):
    monkeypatch.setattr(queues, "SLICE", PER_SLICE)
    WriteNote.defer("loads the script")
    valkey.client().delete("rq:queue:default")


def rows():
    return [(str(number),) for number in range(JOBS)]


def written():
    return get_queue("default").job_ids


def test_the_next_slice_is_sent_before_the_last_one_is_answered(slices, monkeypatch):
    cut = Cut(monkeypatch)
    jobs = WriteNote.defer_many(rows())

    assert cut.said == "ss" + "rs" * 2 + "rr"  # two without an answer
    assert written() == [job.id for job in jobs]
    assert all(job.is_written and job.written_at for job in jobs)


def test_no_more_bytes_are_unanswered_than_a_slow_link_takes(slices, monkeypatch):
    monkeypatch.setattr(ahead, "AHEAD_BYTES", 10)
    cut = Cut(monkeypatch)
    WriteNote.defer_many(rows())

    assert cut.said == "sr" * 4


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, 9))
def test_a_connection_that_is_lost_at_any_point_loses_and_repeats_nothing(at, after, slices, monkeypatch):
    cut = Cut(monkeypatch, at, after=after)
    jobs = WriteNote.defer_many(rows())

    assert len(cut.said) > 8
    assert written() == [job.id for job in jobs]
    assert all(job.is_written for job in jobs)


@pytest.mark.parametrize("at", range(1, 9))
@pytest.mark.parametrize("error", [RedisTimeoutError, KeyboardInterrupt])
def test_a_stop_at_any_point_leaves_whole_slices_and_handles_that_do_not_lie(at, error, slices, monkeypatch):
    made = []
    handle = queues.MandateJob.handle
    monkeypatch.setattr(queues.MandateJob, "handle", lambda *a, **k: made.append(handle(*a, **k)) or made[-1])
    Cut(monkeypatch, at, error)
    with pytest.raises(RedisUnavailableError if error is RedisTimeoutError else error):
        WriteNote.defer_many(rows())
    monkeypatch.undo()

    there = get_connection("default").lrange("rq:queue:default", 0, -1)
    assert len(there) % PER_SLICE == 0
    assert [job.id.encode() for job in made][: len(there)] == there
    known = [job for job in made if job.is_written]
    assert known == made[: len(known)]
    assert len(known) <= len(there) <= len(known) + ahead.AHEAD * PER_SLICE
    assert not get_connection("default").connection_pool._in_use_connections


def test_a_server_that_has_lost_the_script_gets_it_again_between_slices(slices, valkey, monkeypatch):
    words, calls = queues.words, []

    def flush(*args):
        calls.append(args)
        if len(calls) == 3:
            valkey.client().script_flush()
        return words(*args)

    monkeypatch.setattr(queues, "words", flush)
    jobs = WriteNote.defer_many(rows())

    assert written() == [job.id for job in jobs]


def test_a_refused_slice_is_the_error_and_what_was_sent_after_it_is_known(slices, valkey, monkeypatch):
    made = []
    handle = queues.MandateJob.handle
    monkeypatch.setattr(queues.MandateJob, "handle", lambda *a, **k: made.append(handle(*a, **k)) or made[-1])
    words, calls, admin = queues.words, [], valkey.client()

    def full_at_the_third(*args):
        calls.append(args)
        if len(calls) == 3:
            while len(written()) < 2 * PER_SLICE:
                pass
            admin.config_set("maxmemory", 1)
        return words(*args)

    monkeypatch.setattr(queues, "words", full_at_the_third)
    try:
        with pytest.raises(ResponseError, match="^OOM"):
            WriteNote.defer_many(rows())
    finally:
        admin.config_set("maxmemory", 0)

    assert [job.is_written for job in made] == [True] * 2 * PER_SLICE + [False] * 2 * PER_SLICE
    assert written() == [job.id for job in made if job.is_written]


def test_a_primary_that_becomes_a_replica_between_slices_is_left(slices, valkey, monkeypatch):
    words, calls, admin = queues.words, [], valkey.client()

    def fail_over(*args):
        calls.append(args)
        if len(calls) == 2:
            admin.replicaof("127.0.0.1", 1)
        return words(*args)

    run, again = ahead.run_script, []

    def primary_again(*args, **options):
        admin.replicaof("NO", "ONE")
        again.append(args)
        return run(*args, **options)

    monkeypatch.setattr(queues, "words", fail_over)
    monkeypatch.setattr(ahead, "run_script", primary_again)
    try:
        jobs = WriteNote.defer_many(rows())
    finally:
        admin.replicaof("NO", "ONE")

    assert again
    assert written() == [job.id for job in jobs]


def test_duplicates_in_flight_refer_to_the_earlier_job(slices):
    first = OncePerNumber.defer(1)
    jobs = OncePerNumber.defer_many([(number % 5,) for number in range(JOBS)])

    assert [job.duplicate for job in jobs] == [number == 1 or number >= 5 for number in range(JOBS)]
    assert {job.id for number, job in enumerate(jobs) if number % 5 == 1} == {first.id}


def test_a_slice_that_may_be_refused_is_answered_before_the_next_is_sent(slices):
    holder = OncePerNumber.defer(1)
    before = len(get_queue(holder.origin).job_ids)
    with pytest.raises(PrerequisiteError, match="its own duplicate"):
        OncePerNumber.defer_many([(1,), *((number,) for number in range(10, 20))], prereq_jobs=[holder])

    deferred = get_connection("default").zcard(f"rq:deferred:{holder.origin}")
    assert (deferred, len(get_queue(holder.origin).job_ids)) == (PER_SLICE - 1, before)


def test_an_answer_of_a_replica_is_known_in_the_text_of_a_script_too():
    class Connection:
        def read_response(self, **options):
            raise ResponseError("ERR user_script:1: READONLY You can't write against a read only replica.")

    with pytest.raises(ReadOnlyError):
        ahead._answer(Connection())
