"""How learners get on with each loops, and the list that shows it."""

import pytest
from django.core.cache import cache
from django.core.cache.backends.locmem import LocMemCache

from jiki import listing
from jiki.commands.refresh_statistics import RefreshStatistics
from jiki.models import Exercise, ExerciseStatistics
from jobs.testing import assert_idempotent

pytestmark = pytest.mark.django_db


@pytest.fixture
def lists(loops):
    return Exercise.objects.create(slug="lists", title="Lists", text="Make one.", checks="", position=1)


def counts(exercise):
    found = ExerciseStatistics.objects.get(exercise=exercise)
    return found.learners, found.passed, found.submissions, found.pass_rate


def test_learners_count_once_each_however_often_they_try(pupil, stranger, loops, lists, hand_in):
    for passed in (False, False, True, True):
        hand_in(pupil, loops, passed=passed)
    hand_in(stranger, loops, passed=False)

    assert RefreshStatistics.run() == 2
    assert counts(loops) == (2, 1, 5, 50)
    assert counts(lists) == (0, 0, 0, None)


def test_a_second_count_takes_the_place_of_the_first(pupil, stranger, loops, hand_in):
    hand_in(pupil, loops)
    RefreshStatistics.run()
    hand_in(stranger, loops, passed=False)
    RefreshStatistics.run()

    assert counts(loops) == (2, 1, 2, 50)


def test_it_counts_in_one_query_and_writes_in_another(loops, lists, django_assert_num_queries):
    with django_assert_num_queries(4):  # with the savepoint's two
        RefreshStatistics.run()


# --- the list --------------------------------------------------------------------------------


def test_the_list_is_in_order_and_has_what_was_counted(pupil, loops, lists, hand_in):
    hand_in(pupil, loops)
    assert [(each["slug"], each["pass_rate"]) for each in listing.exercises()] == [("loops", None), ("lists", None)]

    RefreshStatistics.run()
    listing.warm()
    first, second = listing.exercises()
    assert first == {"slug": "loops", "title": "Loops", "learners": 1, "submissions": 1, "pass_rate": 100}
    assert (second["learners"], second["pass_rate"]) == (0, None)


def test_the_list_is_read_once_and_then_from_the_cache(loops, django_assert_num_queries):
    with django_assert_num_queries(1):
        assert listing.exercises() == listing.exercises()


def test_a_cache_that_is_away_costs_a_query_and_not_the_page(loops, monkeypatch, caplog):
    def away(*args, **kwargs):
        raise ConnectionError("no cache")

    monkeypatch.setattr(LocMemCache, "get", away)

    assert [each["slug"] for each in listing.exercises()] == ["loops"]
    assert "past the cache" in caplog.text


# --- what keeps it fresh ---------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("change", ["saved", "deleted"])
def test_an_exercise_that_changes_is_new_in_the_list_at_once_and_the_job_warms_it(change, loops, jobs):
    listing.warm()
    if change == "saved":
        loops.title = "More loops"
        loops.save()
    else:
        loops.delete()
    expected = ["More loops"] if change == "saved" else []

    assert cache.get(listing.KEY) is None
    jobs.perform_enqueued_jobs(queue="background")
    assert [each["title"] for each in cache.get(listing.KEY)] == expected
    assert jobs.enqueued_jobs[-1].kwargs["path"] == "jiki.tasks.warm_listing"


@pytest.mark.django_db(transaction=True)
def test_redis_that_is_away_keeps_nobody_from_saving_an_exercise(loops, valkey, caplog):
    valkey.kill()
    loops.title = "More loops"
    loops.save()

    assert Exercise.objects.get().title == "More loops"
    assert "RedisUnavailableError" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_the_list_is_warmed_after_each_count(loops, jobs):
    cache.clear()
    RefreshStatistics.defer()

    jobs.perform_enqueued_jobs()
    jobs.perform_enqueued_jobs()

    assert [each["slug"] for each in cache.get(listing.KEY)] == ["loops"]


@pytest.mark.django_db(transaction=True)
def test_a_count_that_runs_twice_changes_nothing_the_second_time(pupil, loops, hand_in, monkeypatch, jobs):
    hand_in(pupil, loops)
    monkeypatch.setattr("django.utils.timezone.now", lambda now=loops.updated_at: now)

    assert_idempotent(RefreshStatistics)
