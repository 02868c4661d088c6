"""Each button of the dashboard, pressed with scripts and without, and what a real worker does then."""

from datetime import UTC, datetime

import pytest
from django.urls import get_resolver, reverse

from jobs import Batch, Workflow, queues, scheduler
from jobs.broker import keys
from jobs.broker.connections import get_connection
from jobs.inspection import kept_searches, workers
from jobs.limits import control as limits
from jobs.limits import usage
from jobs.scheduler import Entry
from tests.browser.conftest import THREADS
from tests.browser.visitor import address
from tests.processes import wait_until
from tests.sample.commands.ledger import RecordLimited
from tests.sample.commands.long import Patient
from tests.sample.commands.notes import Fail, WriteNote
from tests.sample.commands.trouble import TroubleAfterAStep, TroubleOnce
from tests.sample.models import Note


@pytest.fixture
def page(visitor, scripted):
    return visitor(scripted=scripted)


def is_in(job, state):
    wait_until(lambda: job.state == state)


def dead(*arguments):
    job = Fail.defer(*arguments)
    is_in(job, "dead")
    return job


def queued(text):
    return WriteNote.defer(text, queue="low")  # in the queue that no worker serves


def patient(folder):
    """A job that runs until `folder/release` is there."""
    job = Patient.defer(str(folder / "started"), str(folder / "release"))
    wait_until((folder / "started").exists)
    return job


# --- one job ---------------------------------------------------------------------------------


def test_job_retry(page):
    job = TroubleOnce.defer(times=1)
    is_in(job, "dead")
    page.go("job", job.id)
    page.press("Retry")
    assert page.told() == f"Job {job.id} was retried."
    is_in(job, "finished")


def test_job_run_now(page):
    job = WriteNote.defer("before its time", wait=3_600)
    page.go("job", job.id)
    page.press("Run now")
    assert page.told() == f"Job {job.id} was set to run now."
    is_in(job, "finished")
    assert Note.objects.get().text == "before its time"


def test_job_cancel(page):
    job = WriteNote.defer("x", wait=3_600)
    page.go("job", job.id)
    page.press("Cancel", asks=f"Cancel job {job.id}?")
    assert page.told() == f"Job {job.id} was cancelled."
    assert job.state == "cancelled"


def test_job_cancel_while_it_runs(page, tmp_path):
    job = patient(tmp_path)
    page.go("job", job.id)
    page.press("Interrupt", asks=f"Interrupt job {job.id}?")
    assert page.told() == f"Job {job.id} was interrupted."
    others = []
    for number in range(THREADS):  # its thread is free again
        (tmp_path / str(number)).mkdir()
        others.append(patient(tmp_path / str(number)))
    assert job.state == "cancelled"
    for number, each in enumerate(others):
        (tmp_path / str(number) / "release").touch()
        is_in(each, "finished")


def test_job_delete(page):
    job = dead()
    page.go("job", job.id)
    page.press("Delete", asks=f"Delete job {job.id}?")
    assert page.told() == f"Job {job.id} was deleted."
    assert page.page.url.endswith(address("list", "dead"))
    assert job.state is None


def test_job_move(page):
    job = queued("moved")
    page.go("job", job.id)
    page.more()
    page.page.get_by_label("Move to").select_option("default")
    page.press("Move")
    assert page.told() == f"Job {job.id} was moved to default."
    wait_until(Note.objects.filter(text="moved").exists)


def test_job_reschedule(page):
    job = WriteNote.defer("x", wait=3_600)
    page.go("job", job.id)
    page.more()
    page.page.get_by_label("Runs at").fill("2035-01-02T03:04:05")
    page.press("Change")
    assert page.told() == f"Job {job.id} was rescheduled."
    due = get_connection("default").zscore("rq:scheduled:default", job.id)
    assert due == datetime(2035, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()


def test_job_copy(page):
    job = dead("bad luck")
    page.go("job", job.id)
    page.more()
    page.press("Enqueue a copy")
    assert f"A copy of job {job.id} was enqueued" in page.told()
    wait_until(lambda: get_connection("default").zcard("rq:failed:default") == 2)


def test_job_edited(page):
    job = dead("bad luck")
    page.go("job", job.id)
    page.follow(page.page.get_by_role("link", name="Edit and retry"))
    page.page.get_by_label("message").fill("worse luck")
    page.press("Check")
    assert "'bad luck'" in page.page.locator("del").inner_text()
    page.press("Run it in default")
    assert f"was made from job {job.id}." in page.told()
    wait_until(lambda: get_connection("default").zcard("rq:failed:default") == 2)


def test_one_comes_back_to_the_list_with_its_filters(page):
    job = dead()
    page.go("list", "dead", query="?text=sample&order=oldest")
    page.follow(page.page.locator(".jobs-row"))
    page.press("Delete", asks=f"Delete job {job.id}?")
    assert page.told() == f"Job {job.id} was deleted."
    assert page.page.url.endswith(address("list", "dead") + "?text=sample&order=oldest")


def test_a_question_may_be_answered_with_no(page):
    job = dead()
    page.go("job", job.id)
    page.follow(page.page.get_by_role("button", name="Delete"))
    page.follow(page.page.get_by_role("link", name="No, take me back"))
    assert page.page.url.endswith(address("job", job.id))
    assert job.state == "dead"


# --- many jobs -------------------------------------------------------------------------------


def choose(page, *jobs):
    for job in jobs:
        page.page.get_by_label(job.id).check()


def test_many_retry(page):
    jobs = [TroubleOnce.defer(times=1) for _ in range(3)]
    for job in jobs:
        is_in(job, "dead")
    page.go("list", "dead")
    choose(page, *jobs[:2])
    page.press("Retry selected")
    assert page.told() == "2 jobs were retried."
    is_in(jobs[0], "finished")
    is_in(jobs[1], "finished")
    assert jobs[2].state == "dead"


def test_many_run_now(page):
    jobs = WriteNote.defer_many([("first",), ("second",)], wait=3_600)
    page.go("list", "scheduled")
    choose(page, jobs[1])
    page.press("Run selected now")
    is_in(jobs[1], "finished")
    assert jobs[0].state == "scheduled"


def test_many_cancel(page):
    jobs = [queued("a pear"), queued("an apple"), queued("another apple")]
    page.go("list", "queued", query="?text=apple")
    page.press("Cancel all that match", asks="Cancel 2 jobs?")
    assert page.told() == "2 jobs were cancelled."
    assert [job.state for job in jobs] == ["queued", "cancelled", "cancelled"]
    assert page.page.url.endswith("?text=apple")


def test_many_delete(page):
    jobs = [queued(str(number)) for number in range(30)]
    page.go("list", "queued")
    page.press("Delete all 30", asks="Delete 30 jobs?")
    assert page.told() == "30 jobs were deleted."
    assert {job.state for job in jobs} == {None}


def test_many_of_none_says_so(page):
    dead()
    page.go("list", "dead")
    page.press("Delete selected")
    assert page.told() == "No job was selected."


# --- searches --------------------------------------------------------------------------------


def test_search_keep(page):
    page.go("search", query="?q=sample")
    page.page.locator(".jobs-kept > summary").click()
    page.page.get_by_label("Name").fill("notes")
    page.press("Save this search")
    assert page.told() == "The search was saved as notes."
    page.page.locator(".jobs-kept > summary").click()
    page.follow(page.page.get_by_role("link", name="notes", exact=True))
    assert page.page.url.endswith(address("search") + "?q=sample")


def test_search_forget(page, admin_user):
    kept_searches.keep(str(admin_user.pk), "notes", "sample")
    page.go("search")
    page.page.locator(".jobs-kept > summary").click()
    page.press("Delete the saved search notes")
    assert page.told() == "The saved search notes was deleted."
    assert kept_searches.of(str(admin_user.pk)) == []


# --- queues, entries, workers ----------------------------------------------------------------


def row(page, text):
    return page.page.get_by_role("row").filter(has_text=text)


def test_queue_pause(page):
    page.go("overview")
    page.press("Pause mailers")
    assert page.told() == "The queue mailers is paused."
    assert queues.paused() == {"mailers"}
    assert "paused" in row(page, "mailers").inner_text()


def test_queue_resume(page):
    queues.pause("mailers")
    page.go("overview")
    page.press("Resume mailers")
    assert page.told() == "The queue mailers was resumed."
    assert queues.paused() == set()


def recurring(page):
    scheduler.add(Entry("note the hour", WriteNote, args=("an hour",), cron="@hourly"))
    page.go("recurring")


def test_entry_pause(page):
    recurring(page)
    page.press("Pause note the hour")
    assert page.told() == "The recurring entry note the hour is paused."
    assert scheduler.get("note the hour").paused


def test_entry_resume(page):
    recurring(page)
    scheduler.pause("note the hour")
    page.go("recurring")
    page.press("Resume note the hour")
    assert not scheduler.get("note the hour").paused


def test_entry_run(page):
    recurring(page)
    page.press("Run now note the hour")
    assert "runs now, as job" in page.told()
    wait_until(Note.objects.filter(text="an hour").exists)
    wait_until(lambda: scheduler.get("note the hour").runs()[0].outcome == "finished")


@pytest.fixture
def another_worker(worker_process):
    worker = worker_process("low")
    (worker.name,) = worker.names
    return worker


def test_worker_quiet_stacks_stop(page, another_worker):
    name = another_worker.name
    page.go("worker", name)

    page.press("Show stacks")
    assert page.told() == f"Asked {name} to show its stacks. They will be on its page in a moment."
    wait_until(lambda: "Thread" in page.go("worker", name).locator("#jobs-page").inner_text())

    page.press("Profile")
    assert page.told().startswith(f"Asked {name} to profile its next 20 attempts.")

    page.press("Quiet")
    assert page.told() == f"Asked {name} to take no more jobs."
    wait_until(lambda: "quiet" in another_worker.output.lower())
    job = queued("nobody takes it")

    page.press("Stop", asks=f"Stop {name}? Running jobs have 25 seconds to finish.")
    assert page.told() == f"Asked {name} to stop."
    assert page.page.url.endswith(address("workers"))
    assert another_worker.wait() == 0
    assert job.state == "queued"
    assert name not in {worker.name for worker in workers.listed()}


def test_workers_stop(page, another_worker):
    page.go("workers")
    page.page.get_by_label(another_worker.name).check()
    page.press("Stop", asks=f"Stop {another_worker.name}? Running jobs have 25 seconds to finish.")
    assert another_worker.wait() == 0


def test_queue_clear(page):
    jobs = [queued(str(number)) for number in range(3)]
    page.go("queue", "low")
    page.press("Clear the queue", asks="Delete all 3 jobs that wait in the queue low?")
    assert {job.state for job in jobs} == {None}


def test_job_anew(page):
    job = TroubleAfterAStep.defer()
    is_in(job, "dead")
    page.go("job", job.id)
    page.press("Begin anew", asks=f"Have job {job.id} do all of its steps anew?")
    assert page.told() == f"Job {job.id} begins anew."
    is_in(job, "finished")


def test_job_profile(page):
    job = queued("x")
    page.go("job", job.id)
    page.more()
    page.press("Profile the next attempt")
    assert page.told() == f"The next attempt at job {job.id} will be profiled."


# --- limits and batches ----------------------------------------------------------------------


LIMIT = "sample.OneAtATime:concurrency:"


def limit():
    return next(each for each in usage.usage() if each.id == LIMIT)


def test_limit_pause(page):
    page.go("limits")
    page.press(f"Pause {LIMIT}")
    assert page.told() == f"The limit {LIMIT} is paused."
    assert limit().is_paused


def test_job_force(page):
    limits.pause("sample.RecordLimited:concurrency:line")
    job = RecordLimited.defer(1)
    is_in(job, "limited")
    page.go("job", job.id)
    page.press("Run now, past its limits", asks=f"Run job {job.id} now, past its limits?")
    assert page.told() == f"Job {job.id} was set to run now, past its limits."
    is_in(job, "finished")


def test_limit_resume(page):
    limits.pause(LIMIT)
    page.go("limits")
    page.press(f"Resume {LIMIT}")
    assert page.told() == f"The limit {LIMIT} was resumed."
    assert not limit().is_paused


def test_limit_override(page):
    page.go("limits")
    line = page.page.locator("tr", has=page.page.get_by_role("button", name=f"Pause {LIMIT}", exact=True))
    line.get_by_label(f"How many {LIMIT} admits").fill("7")
    page.press("Set", within=line)
    assert page.told() == f"The limit {LIMIT} admits 7 now."
    assert (limit().n, limit().is_overridden) == (7, True)


def test_batch_retry_dead(page):
    with Batch("troubles") as batch:
        job = TroubleOnce.defer(times=1)
    is_in(job, "dead")
    page.go("batch", batch.id)
    page.press("Retry all dead")
    assert page.told() == "1 job was retried."
    is_in(job, "finished")


def test_batch_cancel(page):
    with Batch("notes") as batch:
        job = queued("x")
    page.go("batch", batch.id)
    page.press("Cancel", asks="Cancel batch notes, of whose members 1 have not ended?")
    assert page.told() == "1 job was cancelled."
    assert job.state == "cancelled"


def test_batch_seal(page):
    with Batch("notes") as batch:
        queued("x")
    get_connection("default").sadd(keys.batch_holds(batch.id), "creator")  # as of one that died in its block
    page.go("batch", batch.id)
    page.press("Seal")
    assert page.told() == f"Batch {batch.id} was sealed: no more jobs follow."
    assert not get_connection("default").exists(keys.batch_holds(batch.id))


def test_batch_retry_from(page):
    with Workflow("notes") as flow:
        first = flow.add(WriteNote, "first")
        flow.add(WriteNote, "second", after=[first])
    wait_until(lambda: Batch.get(flow.id).has_ended)
    page.go("batch", flow.id)
    page.press("Run again from here")
    assert page.told() == "2 steps run again."
    wait_until(lambda: Note.objects.count() == 4)


# --- all of them -----------------------------------------------------------------------------


def test_every_action_has_its_test(client, admin_user, transactional_db):
    known = {"job_id": WriteNote.defer("x", wait=3_600).id, "state": "dead", "queue": "low", "attempt": 1}
    client.force_login(admin_user)
    actions = set()
    addresses = get_resolver().namespace_dict["admin"][1].reverse_dict
    for name in filter(lambda name: str(name).startswith("jobs_"), addresses):
        (_, parameters), *_ = addresses[name][0]
        path = reverse(f"admin:{name}", args=[known.get(each, "x") for each in parameters])
        if client.get(path).status_code == 405:
            actions.add(name.removeprefix("jobs_"))
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    tested |= {f"worker_{name}" for name in ("quiet", "stacks", "stop", "profile")}
    tested |= {"zone"}  # tests/browser/test_live.py
    tested |= {"workers_quiet", "workers_stacks", "workers_profile"}  # the form and the view of `workers_stop`

    assert len(actions) > 15
    assert actions <= tested
