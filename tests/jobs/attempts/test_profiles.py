"""Profiles: each attempt has its own, whatever its outcome, and none affects a job."""

import random
import re
import sys
from datetime import timedelta

import pytest
from django.urls import reverse
from pyinstrument import Profiler
from pyinstrument.stack_sampler import active_profiler_context_var, get_stack_sampler

from jobs import Mandate, control, queues
from jobs.attempts import profiler as drawing
from jobs.attempts import profiles
from jobs.broker.connections import get_connection
from jobs.errors import ChangeRefusedError, CommandDefinitionError
from jobs.job import JobState
from tests.sample.commands.busy import Compute, ComputeAlways, ComputeAsync, ComputeOtherwise, DescendFar, compute
from tests.sample.commands.long import SleepAsync, Spin
from tests.sample.commands.notes import WriteNote
from tests.sample.commands.trouble import Trouble

pytestmark = pytest.mark.django_db(transaction=True)


def of(job):
    return profiles.of(get_connection("default"), job.id)


def one(job):
    (profile,) = of(job)
    return profile


# --- which are profiled ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "defer",
    [
        lambda: Compute.defer(0.02, profile=True),
        lambda: Compute.using(profile=True).defer(0.02),
        lambda: Compute.defer_many([(0.02,)], profile=True)[0],
        lambda: ComputeAlways.defer(0.02),
    ],
)
def test_a_job_is_profiled_if_requested(defer, worker):
    job = defer()

    worker.run()

    found = one(job)
    assert (found.job_id, found.attempt, found.ended, found.cut) == (job.id, 1, "finished", "")
    assert "compute" in found.summary
    assert found.samples > 1 and found.seconds >= 0.02
    assert "pyinstrumentHTMLRenderer.render" in profiles.flame_graph(job.id, 1)
    assert job.return_value() == "done"
    assert profiles.recent() == [found]


def test_other_jobs_are_not_profiled_and_their_records_do_not_grow(worker):
    job = Compute.defer(0)
    client = get_connection("default")

    assert len(client.hgetall(job.key)) == 5
    worker.run()

    assert job.state == "finished"
    assert of(job) == profiles.recent() == []
    assert not client.keys("jobs:profile*")


def test_a_rate_profiles_some_attempts(worker, monkeypatch):
    monkeypatch.setattr(ComputeAlways, "profile_rate", 0.3)
    monkeypatch.setattr(random, "random", iter([0.31, 0.29]).__next__)
    jobs = ComputeAlways.defer_many([(0,), (0.01,)])

    worker.run()

    assert [len(of(job)) for job in jobs] == [0, 1]


@pytest.mark.parametrize("rate", [-0.1, 1.1, "1", None, True])
def test_an_impossible_rate_is_refused(rate):
    with pytest.raises(CommandDefinitionError, match="profile_rate"):
        type("Rated", (Mandate,), {"profile_rate": rate, "__module__": "tests.sample.commands.busy"})


@pytest.mark.parametrize("value", [1, "yes", None])
def test_profile_is_on_or_off(value):
    for defer in (lambda: Compute.defer(0, profile=value), lambda: Compute.defer_many([(0,)], profile=value)):
        with pytest.raises(ValueError, match=r"profile=.* is impossible\. Give True or False\."):
            defer()


# --- what becomes of the attempt --------------------------------------------------------------


def test_every_attempt_that_fails_has_its_own(worker):
    job = Trouble.defer(times=1, profile=True)

    worker.run()
    worker.hurry().run()

    assert job.state == "finished"
    assert [(profile.attempt, profile.ended) for profile in of(job)] == [(2, "finished"), (1, "RuntimeError")]


def test_an_async_command_shows_what_it_awaits(worker):
    job = ComputeAsync.defer(0.05, profile=True)

    worker.run()

    assert job.state == "finished"
    assert "compute" in one(job).summary and "sleep" in one(job).summary


@pytest.mark.processes
@pytest.mark.parametrize(("command", "place"), [(Spin, "Spin.call"), (SleepAsync, "sleep")])
def test_an_attempt_that_times_out_has_one_and_its_thread_goes_on(command, place, worker_process):
    job, after = command.defer(profile=True), WriteNote.defer("after", profile=True)
    worker = worker_process("default", concurrency=1, burst=True)

    assert worker.wait() == 0, worker.output
    assert (job.state, after.state) == ("dead", "finished")
    assert "TimedOut" in job.reason
    assert place in one(job).summary and one(job).seconds > 0
    assert place not in one(after).summary


@pytest.mark.processes
def test_jobs_that_run_side_by_side_have_each_their_own(worker_process):
    jobs = [command.defer(0.3, profile=True) for command in (Compute, ComputeOtherwise) * 3]
    plain = [Compute.defer(0.3), ComputeOtherwise.defer(0.3)]
    worker = worker_process("default", concurrency=8, burst=True)

    assert worker.wait() == 0, worker.output
    found = [one(job) for job in jobs]
    assert ["compute_otherwise" in profile.summary for profile in found] == [False, True] * 3
    assert [profile.command for profile in found] == ["sample.Compute", "sample.ComputeOtherwise"] * 3
    assert [of(job) for job in plain] == [[], []]


# --- it never costs the job anything ----------------------------------------------------------


@pytest.mark.parametrize("broken", ["profiler.flame_graph", "profiles._write", "profiles.get_connection"])
def test_a_profile_that_cannot_be_kept_is_logged_and_does_not_change_the_job(broken, worker, monkeypatch, caplog):
    def fail(*args):
        raise RuntimeError("a profile's own trouble")

    monkeypatch.setattr(f"jobs.attempts.{broken}", fail)
    jobs = [Compute.defer(0.01, profile=True), Compute.defer(0.01, fails=True, profile=True)]

    worker.run()

    assert [job.state for job in jobs] == ["finished", "dead"]
    assert "as planned" in jobs[1].reason
    assert caplog.text.count("could not be kept") == 2


@pytest.mark.parametrize("method", ["start", "stop"])
def test_a_profiler_that_does_not_work_is_logged_and_does_not_change_the_job(method, worker, monkeypatch, caplog):
    def fail(self, *args, **options):
        get_stack_sampler().subscribers.clear()
        get_stack_sampler()._update()
        active_profiler_context_var.set(None)
        raise RuntimeError("a profiler's own trouble")

    monkeypatch.setattr(drawing.Profiler, method, fail)
    jobs = [Compute.defer(0.01, profile=True), ComputeAsync.defer(0.01, profile=True)]

    worker.run()

    assert [job.state for job in jobs] == ["finished", "finished"]
    assert "a profiler's own trouble" in caplog.text
    assert profiles.recent() == []


def test_calls_nested_deeply_are_shown_as_far_as_they_can(worker):
    job = DescendFar.defer(profile=True)

    worker.run()

    assert job.state == "finished"
    assert one(job).summary


def test_without_pyinstrument_a_job_runs_and_the_log_says_what_is_missing(worker, monkeypatch, caplog):
    monkeypatch.delitem(sys.modules, "jobs.attempts.profiler")
    monkeypatch.setitem(sys.modules, "pyinstrument", None)
    job = Compute.defer(0.01, profile=True)

    worker.run()

    assert job.state == "finished"
    assert (
        "is not profiled. A profile needs pyinstrument. Install it: pip install 'django-mandate[profile]'"
        in caplog.text
    )


# --- bounds ----------------------------------------------------------------------------------


def test_a_long_attempt_keeps_fewer_samples_of_all_its_time(worker, monkeypatch):
    monkeypatch.setattr(drawing, "SAMPLES", 20)
    job = Compute.defer(0.5, profile=True)

    worker.run()

    assert 2 < one(job).samples <= 20
    root = one(job).summary.splitlines()[0]
    assert 0.5 * one(job).seconds < float(root.split()[0]) <= round(one(job).seconds, 3)


def test_a_flame_graph_that_is_too_large_is_cut_with_a_note(worker, monkeypatch):
    profiler = Profiler()
    with profiler:
        compute(0.1)
    whole, cut = drawing.flame_graph(profiler.last_session)
    assert cut == ""
    monkeypatch.setattr(drawing, "LARGEST", len(whole) - 1)

    graph, cut = drawing.flame_graph(profiler.last_session)

    assert 0 < len(graph) < len(whole)
    assert re.fullmatch(r"Calls that took less than [\d.]+% of the time were left out\.", cut)


def test_a_flame_graph_that_is_still_too_large_is_left_out_with_a_note(worker, monkeypatch, admin_client):
    monkeypatch.setattr(drawing, "LARGEST", 10)
    job = Compute.defer(0.02, profile=True)

    worker.run()

    assert one(job).cut == "Its flame graph was too large, and left out."
    assert profiles.flame_graph(job.id, 1) is None
    page = admin_client.get(reverse("admin:jobs_job", args=[job.id])).content.decode()
    assert one(job).cut in page and "compute" in page
    assert reverse("admin:jobs_flame_graph", args=[job.id, 1]) not in page


def test_profiles_go_after_a_day_and_the_oldest_when_there_are_many(worker, monkeypatch):
    monkeypatch.setattr(profiles, "KEPT", 3)
    jobs = Compute.defer_many([(0,)] * 5, profile=True)

    worker.run()

    assert [profile.job_id for profile in profiles.recent()] == [job.id for job in reversed(jobs[2:])]
    client = get_connection("default")
    kept = client.keys("jobs:profile:*")
    assert len(kept) == 3
    assert all(0 < client.ttl(key) <= 24 * 3_600 for key in [*kept, "jobs:profiles"])


# --- by a click ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "defer", [lambda: Compute.defer(0.01), lambda: Compute.defer(0.01, wait=timedelta(hours=1))], ids=["queued", "due"]
)
def test_a_person_has_the_next_attempt_profiled(defer, worker, admin_client):
    job = defer()
    page = reverse("admin:jobs_job", args=[job.id])
    assert "Profile the next attempt" in admin_client.get(page).content.decode()

    answer = admin_client.post(reverse("admin:jobs_job_profile", args=[job.id]), {"next": page}, follow=True)

    assert f"The next attempt at job {job.id} will be profiled." in answer.content.decode()
    assert "Profile the next attempt" not in admin_client.get(page).content.decode()
    worker.hurry().run()
    shown = admin_client.get(page).content.decode()
    graph = reverse("admin:jobs_flame_graph", args=[job.id, 1])
    assert graph in shown and "Profiles" in shown
    assert graph in admin_client.get(reverse("admin:jobs_profiles")).content.decode()


def test_a_dead_job_is_profiled_when_it_is_retried(worker):
    job = Compute.defer(0.01, fails=True)
    worker.run()

    control.profile(job)
    control.retry(job)
    worker.run()

    assert job.state == JobState.DEAD
    assert one(job).ended == "RuntimeError"


def test_a_running_finished_or_deleted_job_cannot_be_profiled(worker):
    finished = Compute.defer(0)
    worker.run()
    running = Compute.defer(0)
    worker.claim()
    gone = Compute.defer(0)
    control.delete(gone)

    for job in (running, finished, gone):
        with pytest.raises(ChangeRefusedError):
            control.profile(job)
    assert not get_connection("default").exists(gone.key)


def test_a_copy_is_not_profiled():
    job = Compute.defer(0, profile=True)

    assert get_connection("default").hget(queues.copy(job).key, "profile") is None


# --- how a flame graph is served --------------------------------------------------------------


def test_a_flame_graph_is_a_document_that_reaches_nothing(worker, admin_client, client, django_user_model):
    job = Compute.defer(0.02, profile=True)
    worker.run()
    address = reverse("admin:jobs_flame_graph", args=[job.id, 1])

    answer = admin_client.get(address)

    assert answer.status_code == 200
    # pyinstrument's script asks for a storage, and without an origin there is none.
    page = answer.content.decode()
    assert page.index('defineProperty(window, "localStorage"') < page.index("pyinstrumentHTMLRenderer")
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("sandbox allow-scripts; default-src 'none';")
    assert "same-origin" not in policy and "connect-src" not in policy
    assert admin_client.get(reverse("admin:jobs_flame_graph", args=[job.id, 2])).status_code == 404
    client.force_login(django_user_model.objects.create_user("staff@jiki.example", "x" * 12, is_staff=True))
    assert client.get(address).status_code == 404
    client.logout()
    assert client.get(address).status_code == 302  # to the login


# --- the testing kit -------------------------------------------------------------------------


def test_the_testing_kit_takes_profile_and_profiles_nothing(jobs):
    with jobs.perform_enqueued_jobs():
        asked, always = WriteNote.defer("asked", profile=True), ComputeAlways.defer(0)

    later = WriteNote.defer("later", wait=60)
    control.profile(later)

    assert (asked.state, always.state, later.state) == ("finished", "finished", "scheduled")
    jobs.assert_enqueued_with(WriteNote, args=("asked",))
