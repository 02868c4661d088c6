"""The table of queues: what belongs in each, and how long its first job may wait."""

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from jobs import checks, conf

TABLE = {"critical": {"about": "A learner waits.", "target": 0.5}, "default": "Everything else.", "low": {}}


@pytest.fixture
def table(settings):
    settings.JOBS = {**settings.JOBS, "QUEUES": TABLE}


def test_a_queue_has_a_line_on_what_belongs_there(table):
    assert conf.queues() == {"critical": "A learner waits.", "default": "Everything else.", "low": ""}


def test_a_queue_has_its_own_target_or_a_minute(table):
    assert [conf.target(name) for name in ("critical", "default", "low", "unlisted")] == [0.5, 60.0, 60.0, 60.0]


@pytest.mark.parametrize("target", [0, -1, "1", None, True, float("nan")])
def test_an_invalid_target_is_refused_naming_it(target, settings):
    settings.JOBS = {**settings.JOBS, "QUEUES": {name: {"target": target} for name in settings.RQ_QUEUES}}

    with pytest.raises(ImproperlyConfigured, match="'low'.*target.*must be a number of seconds above 0"):
        conf.target("low")
    assert [message.id for message in checks.check_queues(None)] == ["jobs.E011"] * len(settings.RQ_QUEUES)


def test_without_a_table_the_queues_are_those_of_rq():
    with override_settings(JOBS={}, RQ_QUEUES={"one": {}, "two": {}}):
        assert conf.queues() == {"one": "", "two": ""}
        assert conf.target("one") == 60.0
