"""Changes of many jobs: all that match, none that came later, even if the worker dies in between."""

from datetime import UTC, datetime, timedelta

import pytest

from jobs import bulk, control, queues
from jobs.broker.connections import get_connection
from jobs.broker.times import iso
from jobs.errors import ChangeRefusedError
from jobs.inspection import Count, JobQuery
from jobs.job import JobState
from tests.jobs.worker.servers import Server
from tests.sample.commands.notes import Fail, WriteNote

WRONG_TYPE = "the server said 'WRONGTYPE Operation against a key holding the wrong kind of value'."

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    monkeypatch.setattr("jobs.inspection.query.CHUNK", 20)
    monkeypatch.setattr("jobs.inspection.query.SEARCHED_AT_ONCE", 20)
    monkeypatch.setattr("jobs.control.SLICE", 20)


def ids(queue):
    return [job_id.decode() for job_id in get_connection(queue).lrange(f"rq:queue:{queue}", 0, -1)]


def started(name, state, **filters):
    """Start a change. Returns it, and the arguments of its job."""
    change = bulk.start(name, state, filters, Count(0))
    (job_id,) = [job_id for job_id in ids("critical") if job_id == change.id]
    get_connection("critical").lrem("rq:queue:critical", 0, job_id)
    return change.id


def carried_out(name, state, **filters):
    job_id = started(name, state, **filters)
    until = datetime.now(UTC).isoformat()
    bulk.carry_out(job_id, name, state, filters if state == "scheduled" else {**filters, "until": until})
    return bulk.get(job_id)


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize(("name", "after"), [("retry", "queued"), ("delete", None)])
def test_all_are_changed_while_the_list_shrinks(name, after, order, worker, monkeypatch):
    monkeypatch.setattr("jobs.bulk.PASSES", 1)
    jobs = [*Fail.defer_many([("x",)] * 60), *Fail.defer_many([("x",)] * 30, queue="low")]
    worker.run()
    change = carried_out(name, "dead", order=order)
    assert {job.state for job in jobs} == {after}
    assert (change.changed, change.refused) == (90, 0)
    assert change.ended is not None


def test_jobs_that_do_not_match_stay(worker):
    jobs = Fail.defer_many([(("pear", "apple")[n % 2],) for n in range(90)])
    worker.run()
    change = carried_out("delete", "dead", text="apple")
    assert [job.state for job in jobs] == ["dead", None] * 45
    assert change.changed == 45


def test_none_is_missed_while_others_remove_jobs(monkeypatch):
    jobs = WriteNote.defer_many([(("pear", "apple")[n % 2],) for n in range(100)])
    client, change_all, taken = get_connection("default"), control.change_all, set()

    def cancel_as_others_take(name, some):
        answers = change_all(name, some)
        if len(taken) < 20:  # from the head, where those stay that we have passed: the others move up
            taken.update(map(bytes.decode, client.lpop("rq:queue:default", 5)))
        return answers

    monkeypatch.setattr(control, "change_all", cancel_as_others_take)
    carried_out("cancel", "queued", text="apple")
    left = [job.description for job in jobs if job.id in ids("default")]
    assert left
    assert set(left) == {"sample.WriteNote('pear')"}


def test_jobs_that_come_later_are_not_changed(worker):
    before = WriteNote.defer("before")
    bulk.start("delete", "queued", {"queue": "default"}, Count(1))
    later = WriteNote.defer("later")
    assert worker.step()
    assert before.state is None
    assert later.state == "queued"


def test_a_job_that_comes_back_is_not_changed_again(worker, monkeypatch):
    job = WriteNote.defer("x", wait=60)
    change_all = control.change_all

    def run_and_come_back(name, some):
        answers = change_all(name, some)
        for again in some:
            get_connection("default").lrem("rq:queue:default", 0, again.id)
            get_connection("default").zadd("rq:scheduled:default", {again.id: 1})
            get_connection("default").hset(again.key, "status", "scheduled")
        return answers

    monkeypatch.setattr(control, "change_all", run_and_come_back)
    assert carried_out("run_now", "scheduled").changed == 1
    assert job.state == "scheduled"


def test_refusals_are_counted(monkeypatch, worker):
    jobs = Fail.defer_many([("x",)] * 30)
    worker.run()

    change_all = control.change_all

    def refuse_one(name, some):
        answers = iter(change_all(name, [job for job in some if job.id != jobs[3].id]))
        return [ChangeRefusedError("no") if job.id == jobs[3].id else next(answers) for job in some]

    monkeypatch.setattr(control, "change_all", refuse_one)
    change = carried_out("retry", "dead")
    assert (change.changed, change.refused) == (29, 1)


def test_the_change_continues_after_its_worker_dies(worker, monkeypatch):
    jobs = Fail.defer_many([("x",)] * 60)
    worker.run()
    job_id, left = started("delete", "dead"), iter(range(30))

    def die(name, some):
        for job in some:
            if next(left, None) is None:
                raise SystemExit
            control.delete(job)
        return [None] * len(some)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(control, "change_all", die)
        bulk.carry_out(job_id, "delete", "dead", {})
    assert (bulk.get(job_id).changed, bulk.get(job_id).ended) == (20, None)
    bulk.carry_out(job_id, "delete", "dead", {})
    assert {job.state for job in jobs} == {None}
    assert bulk.get(job_id).changed == 50  # those of the step in which it died are not counted
    assert bulk.get(job_id).ended


def test_it_goes_to_the_head_of_the_first_queue_and_is_listed(worker):
    WriteNote.defer_many([("x",)] * 3, queue="critical")
    first, second = (bulk.start("cancel", "scheduled", {"text": "y"}, Count(7, more=True)) for _ in range(2))
    assert ids("critical")[:2] == [second.id, first.id]
    listed = bulk.recent()
    assert {change.id for change in listed} == {first.id, second.id}
    assert (listed[0].filters, str(listed[0].count), listed[0].ended) == ({"text": "y"}, "7+", None)
    assert 0 < get_connection("critical").ttl(f"jobs:bulk:{first.id}") <= bulk.KEPT_FOR
    assert bulk.get("nobody") is None


def test_the_list_of_changes_is_bounded(monkeypatch):
    monkeypatch.setattr("jobs.bulk.KEPT", 3)
    for _ in range(5):
        bulk.start("cancel", "scheduled", {}, Count(1))
    assert get_connection("critical").zcard("jobs:bulk") == 3


def test_an_invalid_filter_starts_nothing():
    with pytest.raises(ValueError, match="Unknown queue"):
        bulk.start("cancel", "scheduled", {"queue": "urgent"}, Count(1))
    assert bulk.recent() == []


# --- many in one step ------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("name", ["cancel", "delete"])
def test_a_long_queue_is_scanned_once_per_slice(name, order):
    jobs = WriteNote.defer_many([(("pear", "apple")[n % 2],) for n in range(100)])
    client = get_connection("default")
    client.config_resetstat()
    change = carried_out(name, "queued", text="apple", order=order)
    passes = client.info("commandstats")["cmdstat_lrem"]["calls"]
    assert change.changed == 50
    assert ids("default") == [job.id for job in jobs[::2]]
    assert {job.state for job in jobs[1::2]} == {"cancelled" if name == "cancel" else None}
    assert passes <= 100 / 20 + 2


@pytest.mark.processes
def test_a_server_without_lpos_changes_many_too(tmp_path, settings, monkeypatch):
    """As Redis before 6.0.6."""
    with Server(tmp_path / "server", 'rename-command LPOS ""') as server:
        server.use(settings, monkeypatch)
        jobs = WriteNote.defer_many([("x",)] * 5)
        assert control.change_all("cancel", jobs[1:]) == [None] * 4
        assert ids("default") == [jobs[0].id]
        assert {job.state for job in jobs[1:]} == {"cancelled"}


def test_each_of_many_is_changed_independently(worker):
    first, *others = WriteNote.defer_many([("x",)] * 5)
    dead = Fail.defer(queue="critical")
    assert worker.step()
    far = WriteNote.defer_many([("x",)] * 100)[-1]
    gone, odd = WriteNote.defer("y", queue="low"), WriteNote.defer("z")
    control.delete(gone)
    client = get_connection("default")
    client.delete(odd.key)
    client.set(odd.key, "no hash")
    torn = WriteNote.defer("torn")
    client.hset(torn.key, "prereqs", "{")
    many = [far, gone, others[1], dead, odd, torn, others[3]]
    refused = control.change_all("cancel", many)
    assert [str(why) if why else "" for why in refused] == [
        "",
        f"Job {gone.id} cannot be cancelled: it has no record. It finished, or was deleted.",
        "",
        f"Job {dead.id} cannot be cancelled: it is failed.",
        f"Job {odd.id} cannot be cancelled: {WRONG_TYPE}",
        "",
        "",
    ]
    assert [job.state for job in (first, *others)] == ["queued", "queued", "cancelled", "queued", "cancelled"]
    assert (far.state, torn.state, dead.state) == ("cancelled", "cancelled", "dead")
    assert not {far.id, torn.id, others[1].id, others[3].id} & set(ids("default"))
    assert ids("default")[:3] == [first.id, others[0].id, others[2].id]
    assert odd.id in ids("default")


# --- clearing --------------------------------------------------------------------------------


def test_clearing_deletes_earlier_jobs_and_keeps_the_order_of_later_ones():
    old = WriteNote.defer_many([("x",)] * 50)
    until = datetime.now(UTC)
    new = WriteNote.defer_many([("y",)] * 30)
    queues.push([queues.NewJob(queues.new_id(), "default", b"[]", at_front=True)])
    front = ids("default")[0]
    assert sum(control.clear("default", until)) == 50
    assert ids("default") == [front, *(job.id for job in new)]
    assert {job.state for job in old} == {None}
    assert get_connection("default").get(f"jobs:gone:{old[0].id}") == b"deleted"


def test_clearing_leaves_dependents_blocked_and_removes_the_links():
    first = WriteNote.defer("x", wait=60)
    job = WriteNote.defer("y", prereq_jobs=[first])
    waiting = WriteNote.defer("z", prereq_jobs=[job])
    control.run_now(job)
    assert sum(control.clear("default", datetime.now(UTC) + timedelta(seconds=1))) == 1
    assert waiting.state == "blocked"
    assert first.dependents == set()


def test_clearing_drops_ids_without_a_job(valkey):
    client = get_connection("low")
    client.set("rq:job:odd", "no hash")
    client.hset("rq:job:torn", mapping={"status": "queued", "prereqs": "{", "enqueued_at": iso(1)})
    client.rpush("rq:queue:low", "odd", "vanished", "torn")
    assert sum(control.clear("low", datetime.now(UTC))) == 1
    assert ids("low") == []
    assert client.get("rq:job:odd") == b"no hash"


def test_clearing_takes_one_queue_or_all(worker):
    WriteNote.defer_many([("x",)] * 30, queue="low")
    WriteNote.defer_many([("x",)] * 30)
    assert carried_out("clear", "queued", queue="low").changed == 30
    assert (len(ids("low")), len(ids("default"))) == (0, 30)
    assert carried_out("clear", "queued").changed == 30
    assert JobQuery(state=JobState.QUEUED).count() == Count(0)
