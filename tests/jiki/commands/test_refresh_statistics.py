"""How learners get on with each loops, and the list that shows it."""

import pytest
from django.core.cache import cache

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
