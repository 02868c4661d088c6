"""The relay: sends what its process did not, whatever lies in the outbox."""

from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone

from jobs import doctor, queues
from jobs.broker.connections import get_connection
from jobs.dashboard import prometheus
from jobs.doctor import outbox as examination
from jobs.inspection import JobQuery, counts, everywhere, find
from jobs.inspection.search import Search
from jobs.job import JobState
from jobs.models import Unsent
from jobs.outbox import hooks
from jobs.outbox.relay import AFTER, Relay
from jobs.worker.outbox import Turns
from tests.processes import wait_until
from tests.sample.commands.durable import KeepRow, KeepTrace
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True)


def queued(queue="default"):
    return queues.get_queue(queue).job_ids


@pytest.fixture
def unsent(monkeypatch):
    """Defer a command, and leave it to the relay."""

    def defer(command, *args, **options):
        with monkeypatch.context() as patch, transaction.atomic():
            patch.setattr(hooks, "send", lambda *args: None)
            job = command.defer(*args, **options)
            hook = connection.run_on_commit.pop()
            assert type(hook[1]) is hooks.Hook
        return job

    return defer


def make_old(seconds=120):
    Unsent.objects.update(created=timezone.now() - timezone.timedelta(seconds=seconds))


def test_a_row_is_left_to_its_process_for_a_while(unsent, rows):
    job = unsent(KeepRow, "x")
    relay = Relay(get_connection("default"))
    make_old(-60)
    assert (relay.send(), rows()) == (0, [job.id])
    make_old(AFTER + 1)
    assert (relay.send(), rows(), queued()) == (1, [], [job.id])


def test_rows_go_in_their_order_with_their_options(unsent, relay, rows):
    first = unsent(KeepRow, "first")
    later = unsent(KeepTrace, "later", wait=60)
    waits = unsent(KeepRow, "waits", prereq_jobs=[first])
    last = unsent(KeepRow, "last", queue="low")
    make_old()
    assert relay() == 4
    assert (queued(), queued("low")) == ([first.id], [last.id])
    assert (later.state, waits.state) == (JobState.SCHEDULED, JobState.WAITING)
    assert rows() == []


@pytest.mark.parametrize(
    "packed", [b"", b"\xff", b"[]", b"{}", b'{"v": 1}', b'{"v": "x", "call": 3}', b'{"v": 99, "call": "x"}']
)
def test_a_row_that_cannot_be_read_is_kept_and_named_and_others_go_on(packed, unsent, relay, rows, caplog):
    bad = unsent(KeepRow, "bad")
    Unsent.objects.update(packed=packed)
    good = unsent(KeepRow, "good")
    make_old()
    assert (relay(), rows(), queued()) == (1, [bad.id], [good.id])
    assert f"job {bad.id} stays in the outbox" in caplog.text
    texts = [finding.what for finding in examination.findings()]
    assert f"1 row of the outbox cannot be read: {bad.id}." in texts


def test_one_that_the_server_refuses_keeps_no_other(unsent, relay, rows, monkeypatch):
    first = KeepRow.defer_many([(str(number),) for number in range(101)], durable=False)
    bad = unsent(KeepRow, "bad", prereq_jobs=[each.id for each in first])
    good = unsent(KeepRow, "good")
    monkeypatch.setattr(queues, "announce", lambda *args: None)
    assert (relay(), rows()) == (1, [bad.id])
    assert queued()[-1] == good.id


def test_a_row_of_a_queue_that_is_gone_is_kept_and_named(unsent, relay, rows):
    job = unsent(KeepRow, "x")
    Unsent.objects.update(queue="gone")
    make_old()
    assert (relay(), rows()) == (0, [job.id])
    assert any("queues that the project does not have: gone." in finding.what for finding in examination.findings())


def test_several_relays_at_once_send_each_once(unsent, rows):
    job = unsent(KeepRow, "x")
    make_old()
    one, other = Relay(get_connection("default")), Relay(get_connection("default"))
    new = other._send(list(Unsent.objects.all()))  # it has read the row, and is slow
    assert (one.send(), new, queued(), rows()) == (1, [job.id], [job.id], [])


def test_one_process_at_a_time_holds_the_lease(unsent, rows, valkey):
    job = unsent(KeepRow, "x")
    make_old()
    one, other = Turns(get_connection("default")), Turns(get_connection("default"))
    assert (one._lease.hold(), other._lease.hold()) == (True, False)
    one.turn()
    assert (rows(), queued()) == ([], [job.id])


def test_a_worker_process_sends_what_a_dead_process_left(worker_process, unsent, rows):
    unsent(KeepTrace, "x")
    worker = worker_process("default", "low")
    wait_until(lambda: Note.objects.filter(text="x").exists())
    wait_until(lambda: rows() == [])
    assert worker.stop() == 0, worker.output


# --- what is shown ---------------------------------------------------------------------------


def test_lists_counts_searches_and_the_page_of_a_job_show_it(unsent, admin_client):
    jobs = [unsent(KeepRow, str(number)) for number in range(30)]
    query = JobQuery(state=JobState.UNSENT)
    page = query.page(size=20)
    rest = query.page(page.next_cursor, size=20)
    assert [row.id for row in [*page.rows, *rest.rows]] == [job.id for job in jobs]
    assert (query.count().value, counts()[JobState.UNSENT].value, rest.next_cursor) == (30, 30, "")
    assert page.rows[0].description == "sample.KeepRow('0')"
    assert JobQuery(state=JobState.UNSENT, job_id=jobs[3].id).page().rows[0].id == jobs[3].id
    found = everywhere.find_all(Search.parse("command:sample.KeepRow"), 1_000)
    assert len(found.rows) == 30
    assert len(everywhere.find_all(Search.parse("state:unsent command:sample.KeepRow"), 1_000).rows) == 30
    assert find(jobs[0].id).state is JobState.UNSENT
    listed = admin_client.get("/admin/jobs/dashboard/jobs/unsent/").content.decode()
    assert jobs[0].id in listed
    shown = admin_client.get(f"/admin/jobs/dashboard/job/{jobs[0].id}/").content.decode()
    assert "sample.KeepRow" in shown


def test_the_metrics_and_the_overview_name_the_oldest(unsent, admin_client):
    unsent(KeepRow, "x")
    make_old(120)
    text = prometheus.text().decode()
    assert "jobs_unsent 1.0" in text
    oldest = next(line for line in text.splitlines() if line.startswith("jobs_unsent_oldest_seconds "))
    assert 120 <= float(oldest.split()[1]) < 180
    assert any("1 durable job is not in Redis yet" in finding for finding in [overview(admin_client)])


def overview(client):
    return client.get("/admin/jobs/dashboard/").content.decode()


def test_the_doctor_names_unsent_jobs_and_a_relay_that_does_not_run(unsent, valkey):
    unsent(KeepRow, "x")
    make_old(120)
    findings = doctor.examine()
    assert any("1 durable job is not in Redis yet" in finding.what for finding in findings)


def test_the_doctor_names_a_relay_that_does_not_run(valkey):
    with valkey.client() as client:
        client.zadd("jobs:workers", {"w1": 4e9})
        client.sadd("rq:workers", "rq:worker:w1")
        client.hset(
            "rq:worker:w1", mapping={"queues": "default", "threads": "1", "birth": "2026-01-01T00:00:00.000000Z"}
        )
        assert [finding.what for finding in examination.findings()] == ["No worker runs the relay of the outbox."]
        client.set("jobs:lease:outbox", "x")
        assert [*examination.findings()] == []


def test_the_command_sends_all_at_once(unsent, rows):
    jobs = [unsent(KeepRow, str(number)) for number in range(3)]
    out = StringIO()
    call_command("jobs", "relay", stdout=out)
    assert out.getvalue().strip() == "3 jobs were sent."
    assert (rows(), queued()) == ([], [job.id for job in jobs])
