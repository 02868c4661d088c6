"""Prerequisites: links between jobs, and every race on them; on a real server, a step at a time."""

import threading
import time
from contextlib import nullcontext, suppress

import django_rq
import pytest
from django.db import transaction
from redis import Redis
from rq import SimpleWorker

from jobs import MandateJob, control, execution, queues
from jobs.attempts.interrupt import Interruptible
from jobs.attempts.outcomes import Finished
from jobs.broker.connections import get_connection
from jobs.errors import PrereqJobNotFinishedError, PrerequisiteError
from jobs.record import prerequisites as module_of_prerequisites
from jobs.record.prerequisites import Prerequisites
from jobs.worker import release as module
from jobs.worker.connection import Wire
from jobs.worker.recovery import recover
from jobs.worker.release import release
from tests.sample import functions
from tests.sample.commands.acts import Act
from tests.sample.commands.limits import Once, Unguarded
from tests.sample.commands.notes import Fail, WriteNote, WriteNoteSlowly
from tests.sample.commands.trouble import Again, Ruled, Trouble, TroubleTwice
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True)


def defer(*first, **options):
    return WriteNote.defer("after", prereq_jobs=first, **options)


def test_a_job_starts_when_the_last_of_its_prerequisites_has_finished(worker, places):
    first, second = WriteNote.defer("1", queue="low"), WriteNote.defer("2", wait=60)
    job = defer(first, second, queue="critical")

    assert job.state == "waiting"
    assert places()[job.id] == ["deferred:critical"]
    worker.run()
    assert (first.state, job.state) == ("finished", "waiting")
    worker.hurry().run()
    assert (second.state, job.state) == ("finished", "finished")
    assert get_connection("default").keys("jobs:waits:*") == []
    assert get_connection("default").keys("jobs:dependents:*") == []
    assert job.prerequisites == [first.id, second.id]


@pytest.mark.parametrize("given", ["jobs", "ids", "a generator", "twice"])
def test_jobs_or_ids_may_be_given(given, worker):
    first = WriteNote.defer("1")
    forms = {"jobs": [first], "ids": [first.id], "a generator": (j for j in [first]), "twice": [first, first.id]}
    job = WriteNote.defer("after", prereq_jobs=forms[given])

    assert job.state == "waiting"
    worker.run()
    assert job.state == "finished"


def test_every_form_of_defer_takes_prerequisites(worker):
    first = WriteNote.defer("1")
    jobs = [
        WriteNote.using(prereq_jobs=[first]).defer("x"),
        *WriteNote.defer_many([("y",), ("z",)], prereq_jobs=[first]),
        WriteNoteSlowly.defer("w", prereq_jobs=[first]),
    ]
    assert [job.state for job in jobs] == ["waiting"] * 4
    worker.run()
    assert Note.objects.count() == 5


def hold_queued():
    return WriteNote.defer("1")


def hold_scheduled():
    return WriteNote.defer("1", wait=60)


def hold_waiting():
    return defer(hold_queued())


@pytest.mark.parametrize("hold", [hold_queued, hold_scheduled, hold_waiting])
def test_an_unfinished_prerequisite_holds_its_dependents(hold):
    job = defer(hold())
    assert job.state == "waiting"


def test_a_running_a_retrying_and_a_requeued_one_hold_them_too(worker):
    retrying, requeued = TroubleTwice.defer(times=1), Again.defer()
    jobs = [defer(retrying), defer(requeued)]
    worker.run()
    assert (retrying.state, requeued.state) == ("retrying", "scheduled")
    late = [defer(retrying), defer(requeued)]
    assert [job.state for job in jobs + late] == ["waiting"] * 4

    worker.client.zadd("jobs:workers", {"inline": time.time()})
    running = WriteNote.defer("running")
    worker.fetch._step(claims=True)
    assert running.state == "running"
    assert defer(running).state == "waiting"

    (claim,) = worker.fetch._ready
    worker.fetch._ready.clear()
    worker.fetch.commits.add(claim, Finished(None, 500), "sample.WriteNote", 0.0)
    worker.hurry().run()
    assert [job.state for job in jobs + late] == ["finished"] * 4


def test_finished_prerequisites_without_a_record_count_as_done(worker):
    kept, forgotten = WriteNote.defer("1"), WriteNoteSlowly.defer("2")
    worker.run()
    assert (kept.state, forgotten.state) == ("finished", None)

    assert defer(kept, forgotten).state == "queued"
    assert WriteNote.defer("x", prereq_jobs=["never-heard-of"]).state == "queued"


ENDS = {
    "dead": lambda worker: Fail.defer(),
    "discarded": lambda worker: Ruled.defer("hopeless"),
    "cancelled": lambda worker: WriteNote.defer("1"),
    "deleted": lambda worker: WriteNote.defer("1"),
}


def end(name, first, worker):
    {"cancelled": control.cancel, "deleted": control.delete}.get(name, lambda job: worker.run())(first)


@pytest.mark.parametrize("name", ENDS)
def test_a_bad_end_leaves_its_dependents_blocked_until_a_person_decides(name, worker):
    first = ENDS[name](worker)
    run_anyway, drop, stay = defer(first), defer(first), defer(first)
    end(name, first, worker)
    worker.hurry().run()
    assert [job.state for job in (run_anyway, drop, stay)] == ["blocked"] * 3

    control.run_now(run_anyway)
    control.cancel(drop)
    worker.run()
    assert [job.state for job in (run_anyway, drop, stay)] == ["finished", "cancelled", "blocked"]
    assert first.dependents == {stay.id}


@pytest.mark.parametrize("name", ENDS)
def test_with_prereq_failure_run_a_bad_end_will_do(name, worker):
    first = ENDS[name](worker)
    job, strict = defer(first, prereq_failure="run"), defer(first)
    assert job.state == "waiting"
    end(name, first, worker)
    for member in worker.client.smembers("jobs:releasing"):
        release(worker.client, member)
    worker.run()

    assert (job.state, strict.state) == ("finished", "blocked")
    if name in {"dead", "discarded"}:
        assert defer(first, prereq_failure="run").state == "queued"


@pytest.mark.parametrize("name", ["dead", "discarded"])
def test_a_revived_prerequisite_that_finishes_lets_them_run(name, worker):
    first = Trouble.defer("broken" if name == "dead" else "hopeless", times=1)
    type_ = type(first)
    assert type_ is MandateJob
    job = defer(first)
    get_connection("default").hset(first.key, mapping={"progress": b'{"failures": {"": 25}}', "more": 1})
    worker.run()
    assert (first.state, job.state) == ("dead", "blocked")

    control.retry(first)
    assert job.state == "waiting"
    worker.run()
    assert (first.state, job.state) == ("finished", "finished")


def test_a_poisoned_prerequisite_blocks_and_releases_as_a_dead_one_does(worker):
    first = WriteNote.defer("1")
    strict, job = defer(first), defer(first, prereq_failure="run")
    for _ in range(3):
        worker.client.zadd("jobs:workers", {"inline": time.time()})
        worker.fetch._step(claims=True)
        worker.fetch._ready.clear()
        worker.fetch.held.clear()
        recover(Wire("default"), "default", only="inline")
    assert (first.state, first.reason) == ("dead", "poison")
    assert [event.name for event in first.history].count("interrupted") == 3
    for member in worker.client.smembers("jobs:releasing"):
        release(worker.client, member)

    assert (strict.state, job.state) == ("blocked", "queued")


# --- together with a wait, a transaction, uniqueness -----------------------------------------


def test_a_wait_is_counted_from_defer(worker):
    first, second = WriteNote.defer("1"), WriteNote.defer("2", wait=60)
    short, long = defer(first, wait=0.000001), defer(first, wait=3_600)
    assert (short.state, long.state) == ("waiting", "waiting")
    worker.run()

    assert (short.state, long.state, second.state) == ("finished", "scheduled", "scheduled")
    due = get_connection("default").zscore("rq:scheduled:default", long.id)
    assert 3_590 < due - time.time() < 3_600


def test_within_one_transaction(worker):
    with transaction.atomic():
        first = WriteNote.defer("1")
        job = defer(first)
        assert (first.state, job.state) == (None, None)
    assert (first.state, job.state) == ("queued", "waiting")
    worker.run()
    assert job.state == "finished"


def test_a_prerequisite_that_was_rolled_back_blocks(worker):
    with transaction.atomic():
        try:
            with transaction.atomic():
                first = WriteNote.defer("1")
                raise RuntimeError("the savepoint goes")
        except RuntimeError:
            pass
        job = defer(first)
    worker.run()

    assert first.state is None
    assert not first.is_written
    assert job.state == "blocked"


@pytest.mark.parametrize("savepoint", [True, False])
def test_a_rolled_back_prerequisite_has_ended_for_prereq_failure_run(savepoint, worker):
    first = None
    with transaction.atomic() if savepoint else nullcontext():
        with suppress(RuntimeError), transaction.atomic():
            first = WriteNote.defer("1")
            raise RuntimeError("it goes")
        job = defer(first, prereq_failure="run")
    worker.run()

    assert (first.state, job.state) == (None, "finished")


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_prerequisite_whose_transaction_is_open_has_not_ended_yet(worker):
    with transaction.atomic(using="other"):
        first = WriteNote.defer("1")
        job = None

        def other_thread():
            nonlocal job
            job = defer(first, prereq_failure="run")

        thread = threading.Thread(target=other_thread)
        thread.start()
        thread.join()
        worker.run()
        assert job.state == "blocked"
    worker.run()
    assert job.state == "finished"


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_prerequisite_of_another_transaction_is_waited_for(worker):
    job = None
    with transaction.atomic(using="other"):
        first = WriteNote.defer("1")
    with transaction.atomic(using="other"):
        pending = WriteNote.defer("2")

        # `pending` waits for this transaction; the dependent, deferred in a thread without one, does not.
        def other_thread():
            nonlocal job
            job = defer(first, pending)

        thread = threading.Thread(target=other_thread)
        thread.start()
        thread.join()
        worker.run()
        assert job.state == "blocked"
    assert job.state == "waiting"
    worker.run()
    assert job.state == "finished"


def test_a_unique_job_that_would_wait_for_its_own_duplicate_is_refused():
    first = Once.defer(7)
    with pytest.raises(PrerequisiteError, match=first.id):
        Once.defer(7, prereq_jobs=[first])


# --- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [None, 7, "", "a b", "x:y", b"bytes", ["nested"], "ü"])
def test_a_value_that_is_not_a_job_is_refused_naming_it(bad):
    with pytest.raises(PrerequisiteError, match="cannot be a prerequisite"):
        WriteNote.defer("x", prereq_jobs=[bad])


@pytest.mark.parametrize("bad", ["an-id", 7, b"x"])
def test_a_value_that_is_not_a_list_is_refused(bad):
    with pytest.raises(PrerequisiteError, match="is not a list"):
        WriteNote.defer("x", prereq_jobs=bad)


@pytest.mark.parametrize("end", [control.cancel, control.delete])
def test_a_deleted_or_cancelled_job_is_refused(end, places):
    first = WriteNote.defer("1")
    end(first)
    with pytest.raises(PrerequisiteError, match=rf"Job {first.id} cannot be .*: it was (cancelled|deleted)"):
        WriteNote.defer("x", prereq_jobs=[first.id])
    assert len(places()) <= 1


def test_a_job_of_another_redis_is_refused():
    elsewhere = MandateJob("x", connection=Redis(host="redis.invalid"))
    with pytest.raises(PrerequisiteError, match="another Redis"):
        WriteNote.defer("x", prereq_jobs=[elsewhere])


def test_an_invalid_prereq_failure_is_refused():
    with pytest.raises(ValueError, match="prereq_failure='ignore' is impossible"):
        WriteNote.defer("x", prereq_jobs=[], prereq_failure="ignore")


def test_a_job_cannot_wait_for_itself():
    with pytest.raises(PrerequisiteError, match="of itself"):
        queues.push([queues.NewJob("me", "default", b"[]", prerequisites=Prerequisites(("me",)))])


# --- races -----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [WriteNote, WriteNoteSlowly])
def test_a_prerequisite_that_finishes_between_check_and_write_is_done(command, worker, monkeypatch):
    first = command.defer("1")
    run = queues.run_script

    def meanwhile(*args, **options):
        monkeypatch.undo()
        worker.run()
        return run(*args)

    monkeypatch.setattr(queues, "run_script", meanwhile)
    job = defer(first)
    assert job.state == "queued"


@pytest.mark.parametrize("end", [control.cancel, control.delete])
@pytest.mark.parametrize(("failure", "state"), [("wait", "blocked"), ("run", "queued")])
def test_a_prerequisite_that_ends_badly_between_check_and_write_is_not_done(failure, state, end, monkeypatch):
    first = WriteNote.defer("1")
    run = queues.run_script

    def meanwhile(*args, **options):
        monkeypatch.undo()
        end(first)
        return run(*args)

    monkeypatch.setattr(queues, "run_script", meanwhile)
    assert defer(first, prereq_failure=failure).state == state


def test_a_crash_before_or_between_slices_strands_none(worker, monkeypatch):
    first = WriteNote.defer("1")
    jobs = WriteNote.defer_many([(str(n),) for n in range(1_200)], prereq_jobs=[first])
    monkeypatch.setattr("tests.jobs.conftest.release", lambda client, member: None)  # the worker dies here
    worker.step()
    assert first.state == "finished"
    (member,) = worker.client.smembers("jobs:releasing")

    run, calls = module.run_script, []

    def dies_after_one(*args):
        if calls:
            raise ConnectionError("the worker dies")
        calls.append(1)
        return run(*args)

    monkeypatch.setattr(module, "run_script", dies_after_one)
    release(worker.client, member)
    assert worker.client.llen("rq:queue:default") == module.SLICE
    monkeypatch.undo()

    release(worker.client, member)
    assert worker.client.llen("rq:queue:default") == 1_200
    assert worker.client.smembers("jobs:releasing") == set()
    assert {job.state for job in jobs} == {"queued"}


def test_thousands_of_prerequisites_of_one_job(worker):
    firsts = WriteNoteSlowly.defer_many([(str(n),) for n in range(1_500)])
    job = WriteNote.defer("after", prereq_jobs=firsts)
    client = get_connection("default")
    assert client.scard(f"jobs:waits:{job.id}") == 1_500
    for first in firsts[1:]:
        client.hset(first.key, "status", "finished")
        release(client, f"jobs:dependents:{first.id}".encode())
    assert job.state == "waiting"
    worker.step()
    assert job.state == "queued"


def test_released_twice_runs_once(worker):
    first = WriteNote.defer("1")
    job = defer(first)
    worker.step()
    release(worker.client, f"jobs:dependents:{first.id}".encode())
    assert worker.client.lrange("rq:queue:default", 0, -1) == [job.id.encode()]


def test_a_waiting_job_that_somebody_pushes_goes_back_and_uses_no_retry(worker, places):
    first = WriteNote.defer("1", wait=60)
    job = defer(first)
    django_rq.get_queue("default").deferred_job_registry.remove(job.id)
    worker.client.rpush("rq:queue:default", job.id)
    worker.run()

    assert job.state == "waiting"
    assert places()[job.id] == ["deferred:default"]
    assert job.progress.attempts == 0
    worker.hurry().run()
    assert job.state == "finished"


def test_once_they_are_done_the_attempt_reads_nothing_from_redis(worker, monkeypatch):
    first = WriteNote.defer("1")
    job = defer(first)
    worker.step()

    def away(*args):
        raise ConnectionError("Redis is away, and no failure of the job")

    monkeypatch.setattr(module_of_prerequisites, "lacking", away)
    worker.step()
    assert job.state == "finished"


def test_a_running_command_may_defer_a_job_that_waits_for_it(worker, monkeypatch):
    def play(command):
        assert command.job.is_written
        return defer(command.job).id

    monkeypatch.setattr(Act, "play", staticmethod(play), raising=False)
    job = Act.defer()
    worker.step()
    after = MandateJob.fetch(job.return_value(), connection=job.connection)
    assert after.state == "queued"
    assert after.prerequisites == [job.id]


def test_one_that_is_released_while_it_goes_back_is_queued(worker):
    first = WriteNote.defer("1", wait=60)
    job = defer(first)
    worker.client.zrem("rq:deferred:default", job.id)
    worker.client.rpush("rq:queue:default", job.id)
    worker.client.zadd("jobs:workers", {"inline": time.time()})
    worker.fetch._step(claims=True)
    claim = worker.fetch._ready.popleft()
    outcome, name = execution.attempt(claim, Interruptible())
    worker.client.delete(f"jobs:waits:{job.id}")
    worker.fetch.commits.add(claim, outcome, name, 0.0)
    worker.fetch.flush()

    assert job.state == "queued"


# --- perform and perform_now -----------------------------------------------------------------


def test_perform_itself_checks_prerequisites_in_any_worker():
    first = WriteNote.defer("1", wait=60)
    job = defer(first)
    client = get_connection("default")
    client.zrem("rq:deferred:default", job.id)
    client.hset(job.key, "status", "queued")
    client.rpush("rq:queue:default", job.id)
    queue = queues.get_queue("default")
    stock = django_rq.get_connection("default")  # RQ's worker gives the client it gets time-outs of minutes
    SimpleWorker([queue], connection=stock, job_class=MandateJob, serializer=queue.serializer).work(burst=True)

    assert job.state == "dead"
    assert f"PrereqJobNotFinishedError: Unfinished job: {first.id}" in job.latest_result().exc_string
    assert not Note.objects.exists()


def test_perform_now_runs_by_name_once_the_prerequisites_are_done(worker):
    first = WriteNote.defer("1")
    with pytest.raises(PrereqJobNotFinishedError, match=f"Unfinished job: {first.id}"):
        MandateJob.perform_now("sample.WriteNote", "now", prereq_jobs=[first])
    with pytest.raises(MandateJob.PreqJobNotFinishedError):
        MandateJob.perform_now("sample.WriteNote", "now", prereq_jobs=[first.id])
    worker.run()

    MandateJob.perform_now("sample.WriteNote", text="now", prereq_jobs=[first])
    assert Note.objects.filter(text="now").exists()


# --- plain RQ jobs ---------------------------------------------------------------------------


def test_a_plain_rq_job_may_be_the_prerequisite(worker_process):
    plain = django_rq.get_queue("default").enqueue(functions.add, 2, 3)
    job = defer(plain)
    assert job.state == "waiting"
    worker_process("default", burst=True).wait()
    assert job.state == "finished"


def test_a_plain_rq_job_that_fails_blocks_or_releases(worker_process):
    plain = django_rq.get_queue("default").enqueue("os.system", "true")
    strict, job = defer(plain), defer(plain, prereq_failure="run")
    worker_process("default", burst=True).wait()
    assert (strict.state, job.state) == ("blocked", "finished")


def test_a_plain_rq_job_may_wait_for_ours(worker_process):
    first = WriteNoteSlowly.defer("1", queue="default")
    plain = django_rq.get_queue("default").enqueue(functions.add, 2, 3, depends_on=first)
    assert plain.get_status() == "deferred"
    worker = worker_process("default", burst=True)
    assert worker.wait() == 0, worker.output
    assert plain.return_value() == 5, worker.output
    assert get_connection("default").smembers("jobs:releasing") == set()


def test_a_missing_record_that_is_rechecked_holds_too(worker):
    note = Note.objects.create(text="x")
    first = Unguarded.defer(note)
    note.delete()
    job = defer(first)
    worker.run()
    assert (first.state, job.state) == ("scheduled", "waiting")
