"""Outcomes that are large, or that a server does not take, keep no other outcome from being written."""

import re

import pytest
from django.core.exceptions import ImproperlyConfigured

from jobs import conf
from jobs.attempts.outcomes import Dead, Finished
from jobs.job import MandateJob
from jobs.worker.connection import CONNECTION_ERRORS
from tests.jobs.worker.servers import Server
from tests.jobs.worker.test_step import claim_all, finish
from tests.sample.commands.notes import WriteNote
from tests.sample.commands.results import Give

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def strict(tmp_path, settings, monkeypatch):
    """A server that takes no value over a megabyte."""
    with Server(tmp_path / "strict", "proto-max-bulk-len 1048576") as server:
        server.use(settings, monkeypatch)
        yield server


def outcomes_of(fetch, jobs):
    """Step as threads do, through errors; until everything is written."""
    for _ in range(50):
        if fetch._steps.is_all_written:
            break
        try:
            fetch._step(claims=False)
        except CONNECTION_ERRORS:
            fetch._send_less()
    return [str(job.state) for job in jobs]


def test_an_outcome_that_the_server_refuses_is_found_and_loses_what_is_too_large(strict, new_fetch, caplog):
    jobs = WriteNote.defer_many([("x",)] * 5)
    fetch = new_fetch("w1", threads=5)
    with strict.client() as client:
        client.zadd("jobs:workers", {"w1": 9e9})
    claims = claim_all(fetch)
    large = b'"%b"' % (b"x" * 1_000_000)  # 1.3 MB, as it is sent
    for claim, result in zip(claims, (b"1", b"2", large, b"4", b"5"), strict=True):
        finish(fetch, claim, Finished(result, 500))

    assert outcomes_of(fetch, jobs) == ["finished"] * 5
    assert [job.return_value() for job in jobs] == [1, 2, "<1,333,336 bytes, which the server did not take>", 4, 5]
    assert f"does not take the outcome of job {jobs[2].id}" in caplog.text


def test_a_log_that_the_server_refuses_is_left_out_and_the_traceback_stays(strict, new_fetch):
    job = WriteNote.defer("x")
    fetch = new_fetch("w1")
    with strict.client() as client:
        client.zadd("jobs:workers", {"w1": 9e9})
    (claim,) = claim_all(fetch)
    finish(fetch, claim, Dead("why", "Traceback", log="ü" * 900_000))

    assert outcomes_of(fetch, [job]) == ["dead"]
    assert re.fullmatch("<900,0.. bytes, which the server did not take>", job.call_log)
    assert job.latest_result().exc_string == "Traceback"


def test_an_outage_costs_no_result(new_fetch, monkeypatch):
    """Whatever fails while the server does not answer is sent again as it is."""
    job = WriteNote.defer("x")
    fetch = new_fetch("w1")
    (claim,) = claim_all(fetch)
    finish(fetch, claim, Finished(b'"%b"' % (b"x" * 100_000), 500))
    with monkeypatch.context() as patch:

        def refuse(*words):
            raise ConnectionError

        patch.setattr(fetch._wire, "send", refuse)
        for _ in range(10):
            assert not fetch.flush()

    assert fetch.flush()
    assert job.return_value() == "x" * 100_000


def test_many_large_ones_are_sent_in_several_steps(new_fetch):
    jobs = WriteNote.defer_many([("x",)] * 5)
    fetch = new_fetch("w1", threads=5)
    for claim in claim_all(fetch):
        finish(fetch, claim, Finished(b'"%b"' % (b"x" * 600_000), 500))
    steps, start = [], fetch._wire.start

    def noting(script, keys, *words):
        steps.append(sum(len(str(word)) for word in words))
        start(script, keys, *words)

    fetch._wire.start = noting
    while fetch._look():
        pass

    assert all(job.state == "finished" for job in jobs)
    assert len(steps) >= 5
    assert max(steps) < 1_100_000


def test_a_result_over_the_limit_is_kept_as_its_size(worker, settings):
    settings.JOBS = settings.JOBS | {"RESULT_LIMIT": 100}
    small, large = Give.defer("x" * 98), Give.defer("x" * 99)
    worker.run()

    assert MandateJob.fetch(small.id, small.connection).return_value() == "x" * 98
    assert large.return_value() == "<str of 101 bytes, over JOBS['RESULT_LIMIT']>"


@pytest.mark.parametrize("impossible", [0, -1, 2.0, "16", True, None])
def test_a_limit_that_is_none_is_refused(impossible, settings):
    settings.JOBS = settings.JOBS | {"RESULT_LIMIT": impossible}

    with pytest.raises(ImproperlyConfigured, match="RESULT_LIMIT"):
        conf.result_limit()
