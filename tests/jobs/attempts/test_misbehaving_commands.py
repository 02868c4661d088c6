"""Commands that do their worst in what they raise, return, log and ask for: there is an outcome all the same."""

import logging
from datetime import timedelta

import pytest
from django.utils.functional import lazy

from jobs import RetryOn
from jobs.logs import AttemptLog
from jobs.retries import decide
from tests.sample.commands.acts import Act
from tests.sample.commands.notes import WriteNote
from tests.sample.commands.trouble import FlakyError

pytestmark = pytest.mark.django_db(transaction=True)

NO_TEXT = "a file called \udcff"  # as os.listdir returns names that are not UTF-8


class RudeError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def raise_no_text(command):
    raise RuntimeError(NO_TEXT)


def raise_rude(command):
    raise RudeError


def raise_many(command):
    raise ExceptionGroup(NO_TEXT, [RudeError(), ValueError("\0")])


def raise_much(command):
    raise RuntimeError("x" * 5_000_000)


def log_no_text(command):
    logging.getLogger("rude").warning(NO_TEXT)
    raise RuntimeError("as planned")


def requeue_for_ever(command):
    command.requeue_job(1e300)


def requeue_for_as_long_as_there_is(command):
    command.requeue_job(timedelta.max)


def return_no_text(command):
    return NO_TEXT


def return_what_cannot_be_made(command):
    return lazy(lambda: 1 / 0, str)()


def return_what_never_ends(command):
    endless = []
    endless.append(endless)
    return endless


FAIL = [raise_no_text, raise_rude, raise_many, raise_much, log_no_text, requeue_for_ever]
FAIL += [requeue_for_as_long_as_there_is]
COME_THROUGH = [return_no_text, return_what_cannot_be_made, return_what_never_ends]


@pytest.fixture(autouse=True)
def attempt_log():
    """As in a worker process."""
    handler = AttemptLog()
    logging.getLogger().addHandler(handler)
    yield
    logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize("play", FAIL + COME_THROUGH)
def test_there_is_an_outcome_and_the_next_job_runs(play, worker, monkeypatch):
    monkeypatch.setattr(Act, "play", staticmethod(play), raising=False)
    job, after = Act.defer(), WriteNote.defer("after")
    worker.run()

    assert job.state == ("retrying" if play in FAIL else "finished")
    assert after.state == "finished"
    assert [event.name for event in job.history][-1] == ("retried" if play in FAIL else "finished")
    assert len(job.reason or "") <= 500
    assert len(job.results()) == 1


def test_a_result_that_is_to_be_kept_longer_than_redis_can_count_is_kept_for_years(worker):
    job = WriteNote.defer("x")
    job.connection.hset(job.key, "result_ttl", 10**17)
    worker.run()
    assert job.state == "finished"
    assert job.connection.ttl(job.key) == pytest.approx(10 * 365 * 86_400, abs=5)


def test_what_it_logged_is_kept_as_far_as_it_is_text(worker, monkeypatch):
    monkeypatch.setattr(Act, "play", staticmethod(log_no_text), raising=False)
    job = Act.defer()
    worker.run()
    assert job.call_log.endswith(r"WARNING rude: a file called \udcff")


def test_a_wait_that_nobody_can_write_down_is_refused_or_replaced():
    with pytest.raises(ValueError, match=r"wait=1e\+300 is impossible.*a century at most"):
        WriteNote.defer("x", wait=1e300)

    class Policy:
        retries, retry_on, discard_on = 0, [RetryOn(FlakyError, wait=lambda attempt, error: 1e300)], []

    assert decide(FlakyError(), Policy, Act.defer().progress).delay < 60
