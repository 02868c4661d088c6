"""Texts of exercises come from a service that limits its callers, breaks off, lies, and goes away."""

import gzip
import inspect
import time
from datetime import timedelta
from email.utils import formatdate
from pathlib import Path

import pytest

from jiki import content, listing
from jiki.commands.sync_exercise import SyncExercise
from jiki.commands.sync_exercises import SyncExercises
from jiki.models import Exercise, ExerciseSource
from jobs import control
from tests.jiki.service import (
    TEXTS,
    answer,
    cut,
    cut_chunks,
    drip,
    flood,
    hang,
    no_http,
    reset,
)
from tests.processes import wait_until

pytestmark = pytest.mark.django_db

TAKEN = {"title": "Loops", "text": "Write *one*.", "starter": "    pass\n"}


@pytest.fixture
def exercise(db):
    Exercise.objects.all().delete()
    return Exercise.objects.create(
        slug="loops", title="Old", text="Old text.", starter="old", checks="def check(): ..."
    )


def state_of(exercise):
    return Exercise.objects.values("title", "text", "starter").get(pk=exercise.pk)


def sync(exercise, jobs, *answers, service):
    """Let a job meet these answers; returns it and how long it is to wait for its next attempt."""
    service.answers = list(answers)
    job = SyncExercise.defer(exercise)
    jobs.perform_enqueued_jobs(only=SyncExercise)
    return job, wait_of(jobs)


def wait_of(jobs):
    at = jobs.enqueued_jobs[-1].at if jobs.enqueued_jobs else None
    return at.timestamp() - jobs.now() if at else None


def in_seconds(seconds):
    return lambda: formatdate(time.time() + seconds, usegmt=True)


# --- what is taken ---------------------------------------------------------------------------


def test_new_texts_are_taken_and_nothing_else(exercise, jobs, service):
    job, _ = sync(exercise, jobs, answer(checks="evil()", slug="other", position=9), service=service)

    assert (job.state, job.return_value()) == ("finished", True)
    assert state_of(exercise) == TAKEN
    exercise.refresh_from_db()
    assert (exercise.slug, exercise.checks, exercise.position) == ("loops", "def check(): ...", 0)
    assert service.requests[0]["path"] == "/exercises/loops"
    assert "Authorization" not in service.requests[0]


def test_texts_without_a_starter_leave_the_one_that_is_there(exercise, jobs, service):
    sync(exercise, jobs, answer(body={"title": "Loops", "text": "Write."}), service=service)
    assert state_of(exercise) == {"title": "Loops", "text": "Write.", "starter": "old"}


def test_it_says_who_it_is_where_that_is_asked_for(exercise, jobs, service, settings):
    settings.EXERCISES_API_TOKEN = "let-me-in"
    sync(exercise, jobs, answer(), service=service)
    assert service.requests[0]["Authorization"] == "Bearer let-me-in"


def test_what_is_unchanged_is_not_sent_again(exercise, jobs, service):
    names = {"ETag": '"v1"', "Last-Modified": "Mon, 02 Mar 2026 10:00:00 GMT"}
    sync(exercise, jobs, answer(**names), service=service)
    before = ExerciseSource.objects.get()
    job, _ = sync(exercise, jobs, answer(304, b""), service=service)

    assert (job.state, job.return_value()) == ("finished", False)
    assert "If-None-Match" not in service.requests[0]
    assert service.requests[1]["If-None-Match"] == '"v1"'
    assert service.requests[1]["If-Modified-Since"] == names["Last-Modified"]
    assert ExerciseSource.objects.get().fetched_at == before.fetched_at
    sync(exercise, jobs, answer(body=TEXTS | {"title": "New"}), service=service)
    assert state_of(exercise)["title"] == "New"
    assert ExerciseSource.objects.get().etag == ""


def test_a_name_too_long_to_keep_is_not_kept(exercise, jobs, service):
    sync(exercise, jobs, answer(ETag='"' + "x" * 5_000 + '"'), service=service)
    assert state_of(exercise) == TAKEN
    assert ExerciseSource.objects.get().etag == ""


def test_texts_and_their_names_are_saved_together_or_not_at_all(exercise, jobs, service, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no luck")

    with monkeypatch.context() as patch:
        patch.setattr(ExerciseSource.objects, "update_or_create", fail)
        job, _ = sync(exercise, jobs, answer(ETag='"v1"'), service=service)
    assert job.state == "retrying"
    assert state_of(exercise) == {"title": "Old", "text": "Old text.", "starter": "old"}
    assert not ExerciseSource.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_list_has_the_new_title_at_once_and_a_job_warms_it(exercise, jobs, service):
    assert [each["title"] for each in listing.exercises()] == ["Old"]
    sync(exercise, jobs, answer(), service=service)

    assert jobs.enqueued_jobs[-1].kwargs["path"] == "jiki.tasks.warm_listing"
    assert [each["title"] for each in listing.exercises()] == ["Loops"]


# --- what passes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "shortest", "longest"),
    [
        (answer(429, Retry_After="30"), 29, 40),
        (answer(429, Retry_After=in_seconds(90)), 85, 100),
        (answer(503, Retry_After="120"), 119, 130),
        (answer(429), 59, 70),
        (answer(429, Retry_After="soon"), 59, 70),
        (answer(429, Retry_After="²"), 59, 70),
        (answer(429, Retry_After="-5"), 59, 70),
        (answer(429, Retry_After="0"), 0.5, 11),
        (answer(429, Retry_After=in_seconds(-90)), 0.5, 11),
        (answer(429, Retry_After="9" * 400), 86_399, 86_410),
        (answer(502), 4, 15),
        (answer(503), 4, 15),
        (answer(504), 4, 15),
        (reset, 4, 15),
        (cut, 4, 15),
        (cut_chunks, 4, 15),
        (no_http, 4, 15),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_what_may_pass_is_asked_again_later_and_is_no_failure(told, shortest, longest, exercise, jobs, service):
    job, wait = sync(exercise, jobs, told, service=service)

    assert job.state == "scheduled"
    assert shortest <= wait <= longest
    assert (job.progress.requeues, job.progress.failures) == (1, {})
    assert state_of(exercise)["title"] == "Old"
    service.answers = [answer()]
    jobs.travel(longest + 1)
    assert (job.state, state_of(exercise)) == ("finished", TAKEN)


@pytest.mark.parametrize("told", [hang, drip], ids=["hang", "drip"])
def test_a_service_that_keeps_us_waiting_is_left_alone_for_a_while(told, exercise, jobs, service, monkeypatch):
    monkeypatch.setattr(content, "PATIENCE", 0.2)
    monkeypatch.setattr(content, "LONGEST", 0.2)
    job, wait = sync(exercise, jobs, told, service=service)

    assert job.state == "scheduled"
    assert 4 <= wait <= 15


def test_nobody_at_home(exercise, jobs, service):
    service.close()
    job, wait = sync(exercise, jobs, service=service)

    assert job.state == "scheduled"
    assert 4 <= wait <= 15


def test_the_longer_it_is_away_the_less_often_it_is_asked_and_in_the_end_no_more(exercise, jobs, service, monkeypatch):
    monkeypatch.setattr(SyncExercise, "max_requeues", 9)
    job, wait = sync(exercise, jobs, *[answer(503)] * 10, service=service)
    waits = [wait]
    while job.state == "scheduled":
        jobs.travel(timedelta(seconds=waits[-1] + 1))
        waits.append(wait_of(jobs))

    assert all(5 * 2 ** min(tries, 6) <= wait + 1 for tries, wait in enumerate(waits[:9])), waits
    assert waits[8] <= 15 * 64
    assert (job.state, job.reason) == ("dead", "requeued more than its 9 times")


# --- what does not pass ----------------------------------------------------------------------


def test_an_exercise_that_it_does_not_have_is_dropped_with_the_reason(exercise, jobs, service):
    for status in (404, 410):
        job, _ = sync(exercise, jobs, answer(status), service=service)
        assert job.state == "discarded"
        assert (
            job.reason
            == f"NoSuchExerciseError: 127.0.0.1/exercises/loops answered {status}. It does not have this exercise."
        )


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (answer(401), "answered 401. Check EXERCISES_API_URL and EXERCISES_API_TOKEN."),
        (answer(403), "answered 403. Check"),
        (answer(301, Location="/exercises/loops"), "redirects to '/exercises/loops'; redirects are not followed. Set"),
        (answer(302, Location="http://169.254.169.254/" + "x" * 3_000), "redirects to 'http://169.254.169.254/xxx"),
    ],
    ids=["401", "403", "a redirect in a circle", "a redirect elsewhere"],
)
def test_what_a_person_must_change_is_dead_at_once_and_says_what(told, reason, exercise, jobs, service):
    job, _ = sync(exercise, jobs, told, service=service)

    assert job.state == "dead"
    assert reason in job.reason
    assert len(service.requests) == 1


def test_without_an_address_nothing_is_asked(exercise, jobs, settings):
    settings.EXERCISES_API_URL = ""
    job = SyncExercise.defer(exercise)
    jobs.perform_enqueued_jobs()
    assert (job.state, "EXERCISES_API_URL is not set" in job.reason) == ("dead", True)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (answer(body=b"<html>Sorry</html>"), "not JSON"),
        (answer(body=b""), "not JSON"),
        (answer(body=b'{"title": "a", "text": "\\ud800"}'), "not JSON"),
        (answer(body=b'{"title": "\xff", "text": "b"}'), "not JSON"),
        (answer(body=b"[" * 100_000), "not JSON"),
        (answer(body=["title", "text"]), "not a JSON object"),
        (answer(body={"title": "Loops"}), "no text as 'text'"),
        (answer(body=TEXTS | {"text": None}), "no text as 'text'"),
        (answer(body=TEXTS | {"title": 7}), "no text as 'title'"),
        (answer(body=TEXTS | {"starter": ["x"]}), "no text as 'starter'"),
        (answer(body=TEXTS | {"text": "a\0b"}), "no text as 'text'"),
        (answer(body=TEXTS | {"title": ""}), "cannot be blank"),
        (answer(body=TEXTS | {"title": "x" * 101}), "at most 100 characters"),
        (answer(body=b" " * 1_000_001), "more than 1,000,000 bytes"),
        (flood, "more than 1,000,000 bytes"),
        (answer(body=gzip.compress(b" " * 50_000_000), Content_Encoding="gzip"), "encoded as 'gzip'"),
        (answer(204, b""), "It should be 200"),
        (answer(304, b""), "It should be 200"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_an_exercise_changes_nothing_and_is_dead_in_the_end(told, reason, exercise, jobs, service):
    job, _ = sync(exercise, jobs, told, told, told, service=service)
    assert job.state == "retrying"
    assert jobs.travel(timedelta(hours=2)) == 2

    assert (job.state, reason in job.reason) == ("dead", True), job.reason
    assert len(service.requests) == 3
    assert state_of(exercise) == {"title": "Old", "text": "Old text.", "starter": "old"}
    assert not ExerciseSource.objects.exists()


def test_a_fault_over_there_is_retried_as_every_failure(exercise, jobs, service):
    job, _ = sync(exercise, jobs, answer(500), service=service)
    assert (job.state, "answered 500" in job.reason) == ("retrying", True)


# --- all exercises ---------------------------------------------------------------------------


def test_one_job_each_a_second_apart(exercise, jobs):
    Exercise.objects.exclude(pk=exercise.pk).delete()  # those that a new installation has
    for number in range(3):
        Exercise.objects.create(slug=f"e{number}", title="E", text="", checks="")

    assert SyncExercises.run() == 4
    times = sorted(job.at for job in jobs.enqueued_jobs)
    assert times[-1] - times[0] == timedelta(seconds=3)
    SyncExercises.run()
    jobs.assert_enqueued_jobs(4, only=SyncExercise)


def test_an_exercise_that_is_gone_by_then_is_dropped(exercise, jobs, service):
    job = SyncExercise.defer(exercise)
    exercise.delete()
    jobs.perform_enqueued_jobs()
    jobs.travel(5)
    assert job.state == "discarded"


def requeued(job):
    return [event.name for event in job.history].count("requeued")


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_with_a_real_worker(exercise, service, worker_process):
    service.answers = [answer(429, Retry_After="3600"), cut, answer()]
    worker_process("default", env={"EXERCISES_API_URL": service.url})
    job = SyncExercise.defer(exercise)
    for requeues in (1, 2):
        wait_until(lambda requeues=requeues: job.state == "scheduled" and requeued(job) == requeues)
        control.run_now(job)
    wait_until(lambda: job.state == "finished")

    assert state_of(exercise) == TAKEN
    assert requeued(job) == 2


def test_the_page_shows_the_command_as_it_is_and_its_bounds():
    page = (Path(__file__).resolve().parents[2] / "docs/howto/call-an-api.md").read_text()
    assert inspect.getsource(SyncExercise) in page
    assert (content.MOST, content.LONGEST, content.PATIENCE) == (1_000_000, 30, 10)
    assert "1 MB at most, 30 seconds at\nmost, 10 seconds between two pieces" in page
    assert {408, 425, 502, 503, 504} == content.TEMPORARY
    assert "408, 425, 502, 503, 504" in page
