"""An attempt leaves its thread as it found it: context, database connections, caches."""

import pytest
from django.db import connection
from django_rq import get_queue

from tests.jobs.worker import eventually
from tests.processes import child_environment
from tests.sample.commands import leaks
from tests.sample.commands.notes import WriteNote
from tests.sample.models import Note

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

AS_BEFORE = {
    "language": "en",
    "zone": "UTC",
    "tenant": "none",
    "precision": 28,
    "prefix": "/",
    "urlconf": None,
    "attribute": None,
    "wrappers": 0,
    "debug": False,
    "atomic": False,
}
IS_POSTGRES = connection.vendor == "postgresql"
postgres_only = pytest.mark.skipif(not IS_POSTGRES, reason="needs PostgreSQL: DB=postgres")


@pytest.fixture
def max_age():
    """Seconds for which connections are kept."""
    return "600"


closed_and_kept = pytest.mark.parametrize("max_age", ["0", "600"])  # after each attempt; for 10 minutes


@pytest.fixture
def drain(max_age, worker_process):
    """Run the enqueued jobs in one thread."""

    def run(**env):
        url = child_environment()["DATABASE_URL"]
        url += f"{'&' if '?' in url else '?'}conn_max_age={max_age}"
        worker = worker_process("default", concurrency=1, burst=True, env={"DATABASE_URL": url} | env)
        assert worker.wait() == 0, worker.output
        return worker.output

    return run


def results(*jobs):
    assert [(job.state, job.reason) for job in jobs] == [("finished", None)] * len(jobs)
    return [job.latest_result().return_value for job in jobs]


@pytest.mark.parametrize("command", [leaks.ChangeContext, leaks.ChangeContextAsync, leaks.ChangeAttributes])
def test_the_next_job_sees_no_effect_of_the_last(command, drain):
    jobs = [leaks.ShowSurroundings.defer(), command.defer(), leaks.ShowSurroundings.defer()]
    drain()

    before, _, after = results(*jobs)
    assert before == after == AS_BEFORE


@closed_and_kept
def test_the_next_job_has_a_clean_database_session(drain, max_age):
    jobs = [
        leaks.ShowSession.defer(),
        leaks.ChangeSession.defer(),
        leaks.ShowSession.defer(),
        leaks.ShowSession.defer(),
    ]
    drain()

    before, _, *after = results(*jobs)
    pids = {found["session"].pop("pid", None) for found in (before, *after)}
    assert after == [before, before]
    assert before.items() >= AS_BEFORE.items()
    if IS_POSTGRES:
        assert len(pids) == (3 if max_age == "0" else 2)  # it had set `read_only` on the driver's connection


@postgres_only
@closed_and_kept
def test_a_connection_is_kept_where_the_project_says_so(drain, max_age):
    jobs = [leaks.ShowSession.defer() for _ in range(3)]
    drain()

    pids = {found["session"]["pid"] for found in results(*jobs)}
    assert len(pids) == (3 if max_age == "0" else 1)


@closed_and_kept
@pytest.mark.parametrize("command", [leaks.LeaveTransactionOpen, leaks.LeaveNestedOpen, leaks.LeaveAutocommitOff])
def test_a_transaction_that_is_left_open_is_rolled_back_and_reported(command, drain):
    job, after, show = command.defer(), WriteNote.defer("after"), leaks.ShowSession.defer()
    output = drain()

    assert results(job, show)[1].items() >= (AS_BEFORE | {"autocommit": True}).items()
    assert after.state == "finished"
    assert list(Note.objects.values_list("text", flat=True)) == ["after"]
    assert f"job {job.id} has left a transaction of the database 'default' open" in output


def test_a_site_below_a_path_and_its_logged_queries(drain):
    jobs = [leaks.ShowSurroundings.defer(), leaks.CountQueries.defer(), leaks.CountQueries.defer()]
    drain(DJANGO_SETTINGS_MODULE="tests.prefixed")

    surroundings, *logged = results(*jobs)
    assert surroundings["prefix"] == "/below/"
    assert logged == [0, 0]


def test_connections_of_threads_that_have_ended_are_closed(drain):
    jobs = [leaks.OpenElsewhere.defer(), leaks.ShowElsewhere.defer()]
    drain()

    assert results(*jobs)[1] == [False]


def test_attempts_share_the_objects_of_the_cache(drain):
    jobs = [leaks.UseCache.defer(), leaks.UseCache.defer()]
    drain()

    assert len(set(results(*jobs))) == 1


def test_plain_jobs_leave_nothing_either(drain):
    changed = get_queue("default").enqueue("tests.sample.functions.change_surroundings")
    show = leaks.ShowSession.defer()
    drain()

    assert changed.get_status(refresh=True) == "finished"
    assert results(show)[0].items() >= AS_BEFORE.items()


@postgres_only
def test_djangos_pool_is_used_and_its_connections_are_reset(worker_process):
    pytest.importorskip("psycopg_pool")
    jobs = [leaks.ShowSession.defer(), leaks.ChangeSession.defer()]
    jobs += [leaks.ShowSession.defer(), leaks.LeaveTransactionOpen.defer(), leaks.ShowSession.defer()]
    env = {"DJANGO_SETTINGS_MODULE": "tests.pooled"}
    worker = worker_process("default", concurrency=1, burst=True, env=env)
    assert worker.wait() == 0, worker.output

    before, _, between, _, after = results(*jobs)
    for found in (before, between, after):
        del found["session"]["pid"]
    assert before == between == after
    assert not Note.objects.exists()


@postgres_only
def test_a_connection_that_was_cut_fails_no_job(worker_process):
    worker = worker_process("default", concurrency=1)
    first = leaks.ShowSession.defer()
    eventually(lambda: first.state == "finished")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        assert set(cursor.fetchall()) == {(True,)}  # one was kept; a thread of another test may have left one
    second = leaks.ShowSession.defer()
    eventually(lambda: second.state in {"finished", "retrying", "dead"})

    assert second.state == "finished", worker.output


@postgres_only
def test_a_project_may_keep_the_session(worker_process):
    jobs = [leaks.ChangeSession.defer(), leaks.ShowSession.defer()]
    env = {"DJANGO_SETTINGS_MODULE": "tests.unreset"}
    assert worker_process("default", concurrency=1, burst=True, env=env).wait() == 0

    found = results(*jobs)[1]
    assert found["session"]["timeout"] == "54321ms"
    assert found["language"] == "en"
