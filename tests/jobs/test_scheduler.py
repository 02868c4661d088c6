"""Recurring entries on a real server: each run is written once, by any scheduler, after any outage."""

import time
from datetime import UTC, datetime, timedelta
from io import StringIO

import django_rq
import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from rq_scheduler.scheduler import Scheduler as StockScheduler

from jobs import MandateJob, control, scheduler
from jobs.broker.connections import get_connection
from jobs.errors import ScheduleError
from jobs.recurring import runs, writing
from jobs.scheduler import Entry, Scheduler
from tests.jobs.recurring.test_entry import PROBLEMS
from tests.sample import functions
from tests.sample.commands.kept import KeepSecondTime
from tests.sample.commands.limits import Fresh
from tests.sample.commands.notes import Fail, WriteNote
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)


def entry(name="hourly", **options):
    return Entry(name, WriteNote, args=(name,), **({"every": HOUR} if "cron" not in options else {}) | options)


@pytest.fixture
def ticks(valkey):
    """A scheduler that holds the lease."""
    return Scheduler(connection=get_connection("default"))


def late(name, seconds):
    """Set the next time of an entry to so many seconds ago."""
    client = get_connection("default")
    client.zadd("rq:scheduler:scheduled_jobs", {scheduler.get(name).id: time.time() - seconds})


def queued():
    return [job_id.decode() for job_id in get_connection("default").lrange("rq:queue:default", 0, -1)]


def test_a_due_entry_is_run_as_a_job_of_its_own_and_is_due_again(ticks, worker):
    found = scheduler.add(entry())
    assert found.next_at - datetime.now(UTC) == pytest.approx(HOUR, abs=timedelta(seconds=2))
    assert ticks.tick() == 0
    late("hourly", 1)

    assert ticks.tick() == 1
    (run,) = queued()
    assert run.startswith("hourly-20")
    assert ticks.tick() == 0
    assert worker.run() == 1
    assert Note.objects.get().text == "hourly"
    now = scheduler.get("hourly")
    assert 3_590 < (now.next_at - datetime.now(UTC)).total_seconds() <= 3_600
    assert [(run.what, run.outcome) for run in now.runs()] == [("run", "finished")]


def test_each_run_has_an_id_of_its_own_and_none_overwrites_another(ticks):
    scheduler.add(entry())
    for seconds in (9, 6, 3):
        late("hourly", seconds)
        assert ticks.tick() == 1
    assert len(set(queued())) == 3


def test_a_run_that_exists_is_never_written_again(ticks):
    scheduler.add(entry())
    at = time.time() - 5
    client = get_connection("default")
    for _ in range(2):
        client.zadd("rq:scheduler:scheduled_jobs", {"entry-hourly": at})
        ticks.tick()
    assert len(queued()) == 1


def test_two_schedulers_at_the_same_moment_write_one_run(ticks, monkeypatch):
    scheduler.add(entry())
    late("hourly", 1)
    other = Scheduler(connection=get_connection("default"))
    pipelined = Scheduler._pipelined

    def meanwhile(self, steps):
        if self is ticks:
            assert other.enqueue_jobs() == 1  # its lease had run out, say
        return pipelined(self, steps)

    monkeypatch.setattr(Scheduler, "_pipelined", meanwhile)
    assert ticks.tick() == 0
    assert len(queued()) == 1


def test_only_the_owner_of_the_lease_schedules_and_frees_it(ticks):
    other = Scheduler(connection=get_connection("default"))
    scheduler.add(entry())
    ticks.tick()
    late("hourly", 1)

    assert other.tick() == 0
    other.remove_lock()
    assert other.tick() == 0
    ticks.remove_lock()
    assert other.tick() == 1


def test_rq_schedulers_own_process_sees_that_the_lease_is_held(ticks):
    ticks.tick()
    assert not StockScheduler(connection=get_connection("default")).acquire_lock()


def test_an_entry_shows_its_name_and_its_times():
    found = scheduler.add(entry("mail: über", cron="@daily", timezone="UTC"))
    assert repr(found) == f"<StoredEntry 'mail: über': cron='@daily', next_at={found.next_at.isoformat()}>"
    scheduler.pause("mail: über")
    assert repr(scheduler.get("mail: über")) == "<StoredEntry 'mail: über': cron='@daily', paused>"


# --- missed runs -----------------------------------------------------------------------------

MISSED = {
    "latest": ("latest", 1, ["run", "missed"]),
    "none": ("none", 0, ["missed"]),
    "all": ("all", 4, ["run", "run", "run", "run"]),
}


@pytest.mark.parametrize(("catch_up", "runs", "history"), MISSED.values(), ids=MISSED)
def test_runs_that_were_missed(catch_up, runs, history, ticks):
    scheduler.add(entry(every=60, catch_up=catch_up))
    late("hourly", 60 * 3 + 30)

    assert ticks.tick() == runs
    assert [run.what for run in scheduler.get("hourly").runs()] == history
    assert 0 < (scheduler.get("hourly").next_at - datetime.now(UTC)).total_seconds() <= 31


def test_a_run_that_is_only_a_little_late_is_not_missed(ticks):
    scheduler.add(entry(catch_up="none"))
    late("hourly", 3)
    assert ticks.tick() == 1


def test_catch_up_all_is_bounded(ticks):
    scheduler.add(entry(every=1, catch_up="all"))
    late("hourly", 5_000)
    assert ticks.tick() == 100
    assert len(scheduler.get("hourly").runs()) == 100


@pytest.mark.parametrize("overlap", [True, False])
def test_a_run_may_be_skipped_while_the_last_one_is_unfinished(overlap, ticks, worker):
    scheduler.add(entry(every=60, overlap=overlap))
    late("hourly", 9)
    ticks.tick()
    late("hourly", 5)
    assert ticks.tick() == (1 if overlap else 0)
    if not overlap:
        assert scheduler.get("hourly").runs()[0].what == "skipped"
        worker.run()
        late("hourly", 1)
        assert ticks.tick() == 1


def start(worker, job_id):
    """Claim the next job, which is this one."""
    assert worker.claim().id.decode() == job_id


GOING_ON = {
    "a queued run by hand": lambda worker: scheduler.run_now("hourly"),
    "a running run by hand": lambda worker: start(worker, scheduler.run_now("hourly")),
}


@pytest.mark.parametrize("begin", GOING_ON.values(), ids=GOING_ON)
def test_a_run_by_hand_counts_as_any_other(begin, ticks, worker):
    scheduler.add(entry(overlap=False))
    begin(worker)
    (run,) = scheduler.get("hourly").runs()

    with pytest.raises(ScheduleError, match=f"its run {run.job_id} is queued or running. Wait until it has ended"):
        scheduler.run_now("hourly")
    late("hourly", 1)
    assert ticks.tick() == 0
    assert [(each.what, each.job_id) for each in scheduler.get("hourly").runs()][:1] == [("skipped", run.job_id)]


def test_a_run_by_hand_is_refused_beside_one_at_its_time(ticks, worker):
    scheduler.add(entry(overlap=False))
    late("hourly", 1)
    assert ticks.tick() == 1
    with pytest.raises(ScheduleError, match="has overlap=False, and its run hourly-20"):
        scheduler.run_now("hourly")
    worker.run()
    scheduler.run_now("hourly")
    assert len(queued()) == 1


def test_of_two_runs_by_hand_at_once_one_is_refused(monkeypatch):
    scheduler.add(entry(overlap=False))
    active = runs.active

    def meanwhile(*arguments):  # between the check and the write
        found = active(*arguments)
        monkeypatch.setattr(runs, "active", active)
        scheduler.run_now("hourly")
        return found

    monkeypatch.setattr(runs, "active", meanwhile)
    with pytest.raises(ScheduleError, match="queued or running"):
        scheduler.run_now("hourly")
    assert len(queued()) == 1


def test_a_run_that_waits_for_its_retry_does_not_stop_the_entry_until_its_retry_is_due(ticks, worker):
    scheduler.add(Entry("twice", KeepSecondTime, args=("x",), every=HOUR, overlap=False))
    client = get_connection("default")
    late("twice", 9)
    ticks.tick()
    (first,) = queued()
    worker.step()
    assert MandateJob.fetch(first, connection=client).state == "retrying"

    late("twice", 6)
    assert ticks.tick() == 1
    worker.step()
    control.run_now(MandateJob.fetch(first, connection=client))  # its retry, while its later run waits for one
    late("twice", 3)
    assert ticks.tick() == 0
    assert (scheduler.get("twice").runs()[0].what, scheduler.get("twice").runs()[0].job_id) == ("skipped", first)


def test_a_long_run_is_known_after_more_skipped_ones_than_the_history_keeps(ticks, worker):
    scheduler.add(entry(every=1, catch_up="all", overlap=False))
    run = scheduler.run_now("hourly")
    start(worker, run)
    get_connection("default").hdel("rq:job:entry-hourly", "last_run")  # as after a run of a release before
    for _ in range(3):
        late("hourly", 200)
        assert ticks.tick() == 0
    assert {each.job_id for each in scheduler.get("hourly").runs() if each.what == "skipped"} == {run}


def test_the_history_keeps_the_last_hundred_runs_and_their_outcomes(ticks, worker):
    scheduler.add(entry(every=1, catch_up="all"))
    late("hourly", 200)
    ticks.tick()
    client = get_connection("default")
    control.cancel(MandateJob.fetch(queued()[0], connection=client))
    worker.run()
    runs = scheduler.get("hourly").runs()
    assert [run.outcome for run in runs if run.what == "run"] == ["finished"] * 99 + ["cancelled"]

    for _ in range(5):
        scheduler.run_now("hourly")
    worker.run()
    late("hourly", 600)
    client.hset("rq:job:entry-hourly", "entry", client.hget("rq:job:entry-hourly", "entry").replace(b"all", b"none"))
    ticks.tick()

    runs = scheduler.get("hourly").runs()
    assert {runs[0].what, runs[1].what} == {"run", "missed"}
    assert len(runs) == client.llen("jobs:schedule:runs:entry-hourly") == 100
    assert client.hlen("jobs:schedule:ended:entry-hourly") <= 99


@pytest.mark.parametrize("command", [Fail])
def test_a_run_that_dies_is_in_the_history(command, ticks, worker):
    scheduler.add(Entry("fails", command, every=HOUR))
    late("fails", 1)
    ticks.tick()
    worker.run()
    assert scheduler.get("fails").runs()[0].outcome == "dead"


# --- changes of entries ----------------------------------------------------------------------


def test_sync_follows_the_list_and_unchanged_entries_keep_their_times():
    scheduler.sync([entry("a"), entry("b"), entry("c", enabled=False)])
    late("a", -77)
    before = scheduler.get("a").next_at
    scheduler.sync([entry("a"), entry("b", every=60)])

    assert [each.name for each in scheduler.entries()] == ["a", "b"]
    assert scheduler.get("a").next_at == before
    assert (scheduler.get("b").next_at - datetime.now(UTC)).total_seconds() <= 60


def test_a_change_of_the_zone_changes_the_next_time():
    scheduler.sync([entry(cron="0 12 * * *", timezone="Europe/Berlin")])
    berlin = scheduler.get("hourly").next_at
    scheduler.sync([entry(cron="0 12 * * *", timezone="America/New_York")])
    assert scheduler.get("hourly").next_at != berlin
    assert scheduler.get("hourly").next_at.astimezone(scheduler.get("hourly").entry.zone).hour == 12


def test_changed_arguments_and_options_reach_the_next_run(ticks, worker):
    scheduler.sync([entry()])
    scheduler.sync([Entry("hourly", WriteNote, args=("changed",), every=HOUR, queue="low")])
    late("hourly", 1)
    ticks.tick()
    worker.run()
    assert Note.objects.get().text == "changed"
    assert scheduler.get("hourly").queue == "low"
    assert scheduler.get("hourly").description == "sample.WriteNote('changed')"


def test_an_invalid_entry_of_the_list_is_reported_and_the_others_are_stored():
    wrong = scheduler.sync([entry("good"), Entry("bad", "sample.Gone", every=HOUR)])
    assert [each.name for each in scheduler.entries()] == ["good"]
    assert wrong[0].startswith("The entry 'bad' cannot work. Unknown command: 'sample.Gone'")


WRONG = {name: entry for name, (entry, _) in PROBLEMS.items()}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_whatever_is_wrong_with_one_the_others_stand(wrong):
    (text,) = scheduler.sync([entry("first"), wrong, entry("last")])

    assert [each.name for each in scheduler.entries()] == ["first", "last"]
    assert text.startswith(f"The entry {wrong.name!r} cannot ")
    with pytest.raises(ScheduleError):
        scheduler.add(wrong)


def test_an_entry_that_is_written_wrong_is_text_and_the_others_stand(monkeypatch):
    monkeypatch.setattr(Entry, "problems", lambda self: iter(()))
    (text,) = scheduler.sync([entry("first"), Entry("bad", None, every=HOUR), entry("last")])

    assert [each.name for each in scheduler.entries()] == ["first", "last"]
    assert text.startswith("The entry 'bad' cannot be written.")


def test_the_history_of_an_entry_that_was_removed_before_its_run_ended_is_kept_a_day(worker, valkey):
    scheduler.add(entry("gone"))
    scheduler.run_now("gone")
    scheduler.remove("gone")
    worker.run()

    client = valkey.client()
    left = list(client.scan_iter("jobs:schedule*"))
    assert sorted(left) == [b"jobs:schedule:ended:entry-gone", b"jobs:schedule:runs:entry-gone"]
    assert all(0 < client.ttl(key) <= 86_400 for key in left)
    assert not client.exists("rq:job:entry-gone")


def test_a_stored_entry_that_never_comes_keeps_no_other_from_running(ticks, monkeypatch):
    monkeypatch.setattr(Entry, "problems", lambda self: iter(()))
    scheduler.sync([entry("good"), Entry("never", WriteNote, args=("x",), cron="0 0 1 1 *")])
    client = get_connection("default")
    stored = client.hget("rq:job:entry-never", "entry").replace(b"0 0 1 1 *", b"0 0 30 2 *")
    client.hset("rq:job:entry-never", "entry", stored)
    client.zadd("rq:scheduler:scheduled_jobs", {"entry-never": 1, "entry-good": 2})

    assert ticks.tick() == 1
    assert client.zscore("rq:scheduler:scheduled_jobs", "entry-never") > 2


def test_a_pause_survives_a_restart_and_resume_continues_at_the_next_time(ticks):
    scheduler.sync([entry()])
    scheduler.pause("hourly")
    scheduler.sync([entry()])
    assert (scheduler.get("hourly").paused, scheduler.get("hourly").next_at) == (True, None)
    assert ticks.tick() == 0
    scheduler.resume("hourly")
    assert not scheduler.get("hourly").paused
    assert 3_590 < (scheduler.get("hourly").next_at - datetime.now(UTC)).total_seconds() <= 3_600


def test_entries_added_at_run_time_persist_and_are_removed_by_hand(settings):
    scheduler.add(entry("mine"))
    scheduler.sync([entry("listed")])
    assert [each.name for each in scheduler.entries()] == ["listed", "mine"]
    scheduler.remove("mine")
    with pytest.raises(ScheduleError, match="Remove it there"):
        scheduler.remove("listed")
    with pytest.raises(ScheduleError, match="no recurring entry 'mine'"):
        scheduler.pause("mine")
    settings.JOBS = {**settings.JOBS, "SCHEDULE": f"{__name__}.LISTED"}
    with pytest.raises(ScheduleError, match="Change it there"):
        scheduler.add(entry("listed"))
    with pytest.raises(ScheduleError, match="cannot work"):
        scheduler.add(entry("odd", every=0))


LISTED = [entry("listed"), entry("listed!"), entry("listed"), Entry("bad", "sample.Gone", every=HOUR)]


def test_an_entry_that_is_paused_while_a_worker_starts_stays_paused(monkeypatch):
    often = Entry("often", WriteNote, args=("x",), every=60)
    scheduler.add(often)
    next_time = writing._next

    def with_a_pause(*arguments):  # between reading whether it is paused, and writing
        monkeypatch.setattr(writing, "_next", next_time)
        scheduler.pause("often")
        return next_time(*arguments)

    monkeypatch.setattr(writing, "_next", with_a_pause)
    scheduler.add(Entry("often", WriteNote, args=("x",), every=90))
    found = scheduler.get("often")
    assert (found.paused, found.next_at, found.entry.every) == (True, None, 90)


def test_an_entry_can_be_run_twice_at_the_same_moment(monkeypatch):
    scheduler.add(Entry("often", WriteNote, args=("x",), every=60))
    monkeypatch.setattr("jobs.runtime.now", lambda: 1_900_000_000.0)
    ids = [scheduler.run_now("often"), scheduler.run_now("often")]
    assert len(set(ids)) == 2
    assert get_connection("default").lrange("rq:queue:default", 0, -1) == [each.encode() for each in ids]


def test_run_now_does_not_change_the_next_time(worker):
    scheduler.add(entry())
    before = scheduler.get("hourly").next_at
    job_id = scheduler.run_now("hourly")
    worker.run()
    found = scheduler.get("hourly")
    assert job_id.startswith("hourly-now-")
    assert found.next_at == before
    assert [(run.job_id, run.outcome) for run in found.runs()] == [(job_id, "finished")]


@pytest.mark.parametrize("how", ["due", "run now"])
def test_each_run_expires_by_its_own_time(how, ticks, worker):
    scheduler.add(Entry("fresh", Fresh, every=HOUR))
    late("fresh", 3)
    before = time.time()
    if how == "due":
        ticks.tick()
    else:
        scheduler.run_now("fresh")
    (run,) = queued()
    assert float(get_connection("default").hget(f"rq:job:{run}", "expires_at")) == pytest.approx(before + 60, abs=5)
    assert not get_connection("default").hexists("rq:job:entry-fresh", "expires_at")
    worker.run()
    assert scheduler.get("fresh").runs()[0].outcome == "finished"


def test_an_entry_whose_record_was_deleted_is_dropped(ticks):
    scheduler.add(entry())
    get_connection("default").delete("rq:job:entry-hourly")
    get_connection("default").zadd("rq:scheduler:scheduled_jobs", {"entry-hourly": 1})
    assert ticks.tick() == 0
    assert get_connection("default").zcard("rq:scheduler:scheduled_jobs") == 0


@pytest.mark.parametrize("broken", [b"{", b'{"cron": "x"}'])
def test_an_unreadable_entry_does_not_stop_the_others(broken, ticks, caplog):
    scheduler.sync([entry("a"), entry("b")])
    get_connection("default").hset("rq:job:entry-a", "entry", broken)
    late_client = get_connection("default")
    late_client.zadd("rq:scheduler:scheduled_jobs", {"entry-a": 1, "entry-b": time.time() - 1})

    assert ticks.tick() == 1
    assert "the recurring entry entry-a cannot be read" in caplog.text
    assert late_client.zscore("rq:scheduler:scheduled_jobs", "entry-a") > time.time() + 50


def test_a_script_that_the_server_has_lost_is_sent_again(ticks, valkey):
    scheduler.add(entry())
    late("hourly", 1)
    valkey.client().script_flush()
    assert ticks.tick() == 1


# --- rq-scheduler's own jobs, through django-rq ----------------------------------------------


def test_django_rq_returns_our_scheduler():
    assert type(django_rq.get_scheduler("default")) is Scheduler


def test_a_job_of_rq_scheduler_runs_once_at_its_time(worker_process):
    stock = django_rq.get_scheduler("default")
    job = stock.enqueue_in(timedelta(seconds=-1), functions.add, 2, 3)
    later = stock.enqueue_at(datetime.now(UTC) + HOUR, functions.add, 2, 3)
    assert stock.count() == 2
    assert stock.tick() == 1
    assert later in stock
    assert job not in stock
    worker_process("default", burst=True).wait()
    assert job.return_value() == 5


@pytest.mark.parametrize("repeat", [None, 2])
def test_a_repeated_job_of_rq_scheduler_has_an_id_for_each_run(repeat, worker_process):
    stock = django_rq.get_scheduler("default")
    job = stock.schedule(datetime.now(UTC) - timedelta(seconds=1), functions.add, [2, 3], interval=60, repeat=repeat)
    client = get_connection("default")
    for seconds, expected in ((9, 1), (6, 1), (3, 0 if repeat else 1)):
        client.zadd("rq:scheduler:scheduled_jobs", {job.id: time.time() - seconds}, xx=True)
        assert stock.tick() == expected
    assert len(set(queued())) == (2 if repeat else 3)
    worker_process("default", burst=True).wait()
    assert client.zcard("rq:finished:default") == (2 if repeat else 3)


def test_a_cron_job_of_rq_scheduler_goes_by_utc_or_the_projects_zone(settings):
    settings.TIME_ZONE = "Asia/Kolkata"
    stock = django_rq.get_scheduler("default")
    utc = stock.cron("0 5 * * *", functions.add, [1, 2])
    local = stock.cron("0 5 * * *", functions.add, [1, 2], use_local_timezone=True)
    found = {job.id: at for job, at in stock.get_jobs(with_times=True)}
    assert (found[utc.id].hour, found[utc.id].minute) == (5, 0)
    assert (found[local.id].hour, found[local.id].minute) == (23, 30)


def test_django_rqs_page_lists_entries(admin_client, settings):
    settings.ROOT_URLCONF = "tests.django_rq_urls"
    scheduler.add(entry(cron="0 5 * * *"))
    page = admin_client.get("/django-rq/schedulers/0/")
    assert page.status_code == 200
    assert b"entry-hourly" in page.content
    assert b"cron: &#x27;0 5 * * *&#x27;" in page.content


# --- the command, and the checks -------------------------------------------------------------


def test_the_command_runs_once_in_a_burst(settings):
    settings.JOBS = {**settings.JOBS, "SCHEDULE": f"{__name__}.LISTED"}
    said = StringIO()
    call_command("rqscheduler", burst=True, stderr=said)
    assert [each.name for each in scheduler.entries()] == ["listed", "listed!"]
    assert "The entry 'bad' cannot work" in said.getvalue()


def test_checks_report_invalid_entries(settings):
    settings.JOBS = {**settings.JOBS, "SCHEDULE": f"{__name__}.LISTED"}
    found = [(message.id, str(message.msg)) for message in run_checks(tags=["jobs"])]
    assert ("jobs.E008", "Two recurring entries are called 'listed' and 'listed'.") in found
    assert any(id == "jobs.E007" and "sample.Gone" in text for id, text in found)
    settings.JOBS = {**settings.JOBS, "SCHEDULE": "nowhere.X"}
    assert [m.id for m in run_checks(tags=["jobs"])] == ["jobs.E007"]


def test_the_products_own_list_works(settings):
    settings.JOBS = {**settings.JOBS, "SCHEDULE": "config.schedule.SCHEDULE"}
    assert run_checks(tags=["jobs"]) == []
