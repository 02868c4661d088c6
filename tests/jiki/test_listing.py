"""The list of exercises, read through the cache, and what keeps it fresh."""

import pytest
from django.core.cache import cache
from django.core.cache.backends.locmem import LocMemCache
from django.db import transaction

from jiki import listing
from jiki.commands.refresh_statistics import RefreshStatistics
from jiki.models import Exercise
from jiki.tasks import renew_listing

pytestmark = pytest.mark.django_db


@pytest.fixture
def lists(loops):
    return Exercise.objects.create(slug="lists", title="Lists", text="Make one.", checks="", position=1)


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
    assert "from the database" in caplog.text


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("change", ["saved", "deleted"])
def test_an_exercise_that_changes_is_new_in_the_list_at_once_and_the_job_warms_it(change, loops, jobs):
    listing.warm()
    with transaction.atomic():
        if change == "saved":
            Exercise.objects.update(title="More loops")
        else:
            loops.delete()
        renew_listing()
        assert cache.get(listing.KEY)
    expected = ["More loops"] if change == "saved" else []

    assert cache.get(listing.KEY) is None
    jobs.perform_enqueued_jobs(queue="background")
    assert [each["title"] for each in cache.get(listing.KEY)] == expected
    assert jobs.enqueued_jobs[-1].kwargs["path"] == "jiki.tasks.warm_listing"


@pytest.mark.django_db(transaction=True)
def test_redis_that_is_away_keeps_nobody_from_saving_an_exercise(loops, valkey, caplog):
    valkey.kill()
    renew_listing()

    assert "RedisUnavailableError" in caplog.text
