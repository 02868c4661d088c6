"""A learner asks for a copy of her data, sees what becomes of it, gets a mail, and fetches it. Nobody else does."""

import io
import re
import threading
import zipfile
from datetime import timedelta
from email import message_from_bytes

import pytest
from django.core import mail
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from jiki import archive
from jiki.commands import prepare_export
from jiki.commands.clean_up_exports import CleanUpExports
from jiki.commands.prepare_export import PrepareExport
from jiki.commands.refresh_statistics import RefreshStatistics
from jiki.commands.request_export import RequestExport
from jiki.commands.send_export_email import SendExportEmail
from jiki.links import export_token, read_export_token
from jiki.models import DataExport, DataExportFile, DataExportPart, ExerciseStatistics
from jobs import control, inspection
from jobs.testing import assert_idempotent
from tests.processes import wait_until
from users.models import User

pytestmark = pytest.mark.django_db


@pytest.fixture
def ready(pupil):
    export = DataExport.objects.create(user=pupil, state=DataExport.State.READY, ready_at=timezone.now())
    DataExportFile.objects.create(export=export, content=b"a zip")
    return export


@pytest.fixture
def page(client, pupil):
    client.force_login(pupil)
    return lambda **headers: client.get(reverse("your_data"), headers=headers).content.decode()


def link(export):
    return reverse("export", kwargs={"token": export_token(export)})


def finish(jobs):
    while jobs.perform_enqueued_jobs():
        pass


# --- asking ----------------------------------------------------------------------------------


def test_the_statistics_come_first_then_the_export_then_the_mail(pupil, loops, hand_in, jobs):
    hand_in(pupil, loops)
    RequestExport.run(pupil)
    jobs.assert_enqueued_with(RefreshStatistics, queue="background")
    waiting = jobs.assert_enqueued_with(PrepareExport, queue="low")
    assert waiting.state == "waiting"

    finish(jobs)
    assert [each.name for each in jobs.performed_jobs if each.name.startswith("jiki.")] == [
        "jiki.RefreshStatistics",
        "jiki.PrepareExport",
        "jiki.SendExportEmail",
    ]
    assert ExerciseStatistics.objects.get(exercise=loops).passed == 1
    export = pupil.exports.get()
    assert export.state == DataExport.State.READY
    (token,) = re.findall(r"http://test.host/your-data/(\S+)/\n", str(mail.outbox[0].body))
    assert read_export_token(token) == (export.pk, pupil.pk)
    with zipfile.ZipFile(io.BytesIO(bytes(export.file.content))) as found:
        assert b'"passed"' in found.read(found.namelist()[-2])


def test_old_statistics_are_no_reason_to_have_no_export(pupil, jobs, monkeypatch):
    def fail(command):
        raise RuntimeError("no luck")

    monkeypatch.setattr(RefreshStatistics, "call", fail)
    monkeypatch.setattr(RefreshStatistics, "retries", 0)
    RequestExport.run(pupil)
    finish(jobs)

    assert pupil.exports.get().state == DataExport.State.READY


def test_who_asks_again_within_the_hour_is_not_heard_and_after_it_is(pupil, jobs):
    first = RequestExport.run(pupil)
    assert RequestExport.run(pupil) is None
    jobs.assert_enqueued_jobs(1, only=PrepareExport)

    DataExport.objects.update(asked_at=timezone.now() - DataExport.AGAIN_AFTER)
    assert RequestExport.run(pupil).pk != first.pk


@pytest.mark.django_db(transaction=True)
def test_of_two_requests_at_the_same_moment_one_is_taken(pupil, monkeypatch, jobs):
    first_looks, second_begins, answers = threading.Event(), threading.Event(), {}
    create = DataExport.objects.create

    def slow_create(**values):
        first_looks.set()
        assert second_begins.wait(20)
        return create(**values)

    def ask(name):
        if name == "second":
            assert first_looks.wait(20)
            connection.ensure_connection()
            second_begins.set()
        answers[name] = RequestExport.run(pupil)
        connection.close()

    monkeypatch.setattr(DataExport.objects, "create", slow_create)
    threads = [threading.Thread(target=ask, args=(name,)) for name in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert DataExport.objects.count() == 1
    assert answers["second"] is None


@pytest.mark.django_db(transaction=True)
def test_redis_that_is_away_is_said_and_uses_up_no_request(client, pupil, valkey):
    client.force_login(pupil)
    valkey.kill()
    answer = client.post(reverse("your_data"))

    assert answer.status_code == 503
    assert "Please try again in a minute" in answer.content.decode()
    assert "Ask for your data" in answer.content.decode()
    assert not DataExport.objects.exists()


# --- preparing -------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_job_that_runs_twice_makes_one_file_and_one_mail(pupil, jobs):
    export = DataExport.objects.create(user=pupil)
    PrepareExport.run(export)
    before = bytes(export.file.content)
    assert_idempotent(PrepareExport, DataExport.objects.get())
    SendExportEmail.run(export)
    assert_idempotent(SendExportEmail, export)

    assert bytes(DataExportFile.objects.get().content) == before
    jobs.assert_enqueued_jobs(1, only=SendExportEmail)
    assert len(mail.outbox) == 1


def test_the_file_its_state_and_its_mail_come_together_or_not_at_all(pupil, jobs, monkeypatch):
    def fail(*args, **options):
        raise RuntimeError("no luck")

    export = DataExport.objects.create(user=pupil)
    job = PrepareExport.defer(export)
    monkeypatch.setattr(prepare_export.SendExportEmail, "defer", fail)
    jobs.perform_enqueued_jobs()

    assert job.state == "retrying"
    export.refresh_from_db()
    assert (export.state, export.ready_at) == (DataExport.State.PREPARING, None)
    assert not DataExportFile.objects.exists()
    monkeypatch.undo()
    jobs.travel(timedelta(minutes=1))
    export.refresh_from_db()
    assert export.state == DataExport.State.READY


def test_one_that_is_too_large_is_dead_at_once_and_the_page_says_so(pupil, loops, hand_in, page, jobs, monkeypatch):
    most, _ = archive.MOST, monkeypatch.setattr(archive, "MOST", -1)
    hand_in(pupil, loops)
    export = DataExport.objects.create(user=pupil)
    job = PrepareExport.defer(export)
    jobs.perform_enqueued_jobs()

    assert (job.state, "more than -1 bytes" in job.reason) == ("dead", True)
    assert "It could not be prepared" in page()

    monkeypatch.setattr(archive, "MOST", most)
    control.retry(job)  # it goes on with what it has collected
    jobs.perform_enqueued_jobs()
    with zipfile.ZipFile(io.BytesIO(bytes(export.file.content))) as found:
        assert len(found.namelist()) == 5


def test_one_that_a_deployment_stops_goes_on_where_it_was(pupil, loops, hand_in, jobs, monkeypatch):
    collected = []
    files_of = archive.files_of
    monkeypatch.setattr(archive, "files_of", lambda each: collected.append(each.pk) or files_of(each))
    submissions = [hand_in(pupil, loops).pk for _ in range(45)]
    export = DataExport.objects.create(user=pupil)
    job = PrepareExport.defer(export)
    jobs.interrupt(PrepareExport, at="each", after=25)
    jobs.perform_enqueued_jobs()
    assert (job.state, export.parts.count()) == ("queued", 20)  # the last five are rolled back with their chunk
    collected.clear()
    jobs.interrupt(PrepareExport, at="write")
    jobs.perform_enqueued_jobs()
    assert (job.state, collected) == ("queued", submissions[20:])
    jobs.perform_enqueued_jobs()

    assert (job.state, collected) == ("finished", submissions[20:])
    assert not DataExportPart.objects.exists()
    with zipfile.ZipFile(io.BytesIO(bytes(export.file.content))) as found:
        assert len(found.namelist()) == 3 + 2 * 45


# --- the page --------------------------------------------------------------------------------


def test_who_is_not_logged_in_is_asked_to(client, ready):
    for address in (reverse("your_data"), link(ready)):
        answer = client.get(address)
        assert (answer.status_code, answer["Location"].startswith("/login")) == (302, True)


def test_the_page_shows_each_state(pupil, page, jobs):
    assert "Ask for your data" in page()
    export = DataExport.objects.create(user=pupil)
    for state, shown in (
        ("queued", "You need not wait here"),
        ("preparing", "You need not wait here"),
        ("failed", "It could not be prepared"),
    ):
        DataExport.objects.update(state=state)
        assert shown in page()
        assert '<form method="post" action="/your-data/">' not in page()
    DataExport.objects.update(state="ready", ready_at=timezone.now())
    export.refresh_from_db()
    assert "Download your data" in page()
    assert re.search(r'href="/your-data/[\w:=-]+/"', page())
    DataExport.objects.update(asked_at=timezone.now() - timedelta(hours=2))
    assert "Ask for a new copy" in page()
    DataExport.objects.update(ready_at=timezone.now() - DataExport.KEPT)
    assert "Ask for your data" in page()


def test_the_page_follows_the_job_while_there_is_something_to_come(client, pupil, page, jobs):
    RequestExport.run(pupil)
    shown = page()
    assert "Waiting for other work" in shown  # the statistics
    follow = re.search(r'hx-get="([^"]+)"', shown)[1]
    assert "HX-Refresh" not in client.get(follow)

    finish(jobs)
    jobs.travel(1)  # the page is loaded anew a second after the end
    assert client.get(follow)["HX-Refresh"] == "true"
    assert "hx-get" not in page()


def test_the_job_reports_each_submission(pupil, loops, hand_in, jobs):
    for _ in range(3):
        hand_in(pupil, loops)
    export = RequestExport.run(pupil)
    finish(jobs)
    assert inspection.find(export.job_id).report[:2] == (3, 3)


def test_a_page_of_the_last_release_is_loaded_anew(client, pupil):
    client.force_login(pupil)
    for _ in range(2):
        assert client.get(reverse("your_data"), headers={"HX-Request": "true"})["HX-Refresh"] == "true"
        client.logout()


def test_asking_leads_back_to_the_page(client, pupil, jobs):
    client.force_login(pupil)
    for _ in range(2):
        assert client.post(reverse("your_data"))["Location"] == reverse("your_data")
    assert DataExport.objects.count() == 1


def test_nobody_sees_anothers(client, ready, stranger):
    client.force_login(stranger)
    page = client.get(reverse("your_data")).content.decode()

    assert "Ask for your data" in page
    assert client.get(link(ready)).status_code == 404


# --- fetching --------------------------------------------------------------------------------


def test_the_owner_fetches_it(client, pupil, ready):
    client.force_login(pupil)
    answer = client.get(link(ready))

    assert (answer.status_code, answer.content) == (200, b"a zip")
    assert answer["Content-Type"] == "application/zip"
    assert answer["Content-Disposition"] == f'attachment; filename="jiki-data-{ready.pk}.zip"'
    assert answer["Cache-Control"] == "no-store, private"


@pytest.mark.parametrize("token", ["x", "WzEsMV0:1uABCD:forged"])
def test_a_link_that_we_did_not_make_leads_nowhere(token, client, pupil):
    client.force_login(pupil)
    assert client.get(f"/your-data/{token}/").status_code == 404


@pytest.mark.parametrize("gone", ["expired", "cleaned up", "not ready"])
def test_one_whose_time_is_over_is_gone_and_a_page_says_so(gone, client, pupil, ready):
    address = link(ready)
    client.force_login(pupil)
    if gone == "expired":
        DataExport.objects.update(ready_at=timezone.now() - DataExport.KEPT)
    elif gone == "cleaned up":
        ready.delete()
    else:
        DataExport.objects.update(ready_at=None)
    answer = client.get(address)

    assert answer.status_code == 410
    assert "This link has expired" in answer.content.decode()


def test_the_owner_alone_learns_that_it_has_expired(client, ready, stranger):
    DataExport.objects.update(ready_at=timezone.now() - DataExport.KEPT)
    client.force_login(stranger)
    assert client.get(link(ready)).status_code == 404


# --- clean-up --------------------------------------------------------------------------------


def test_what_has_expired_goes_with_its_file_which_nobody_reads_for_that(pupil, ready):
    now = timezone.now()
    DataExport.objects.update(ready_at=now - DataExport.KEPT)
    new = DataExport.objects.create(user=pupil, state="ready", ready_at=now)
    DataExportFile.objects.create(export=new, content=b"a zip")
    waiting = DataExport.objects.create(user=pupil, asked_at=now - timedelta(days=20))
    DataExport.objects.create(user=pupil, asked_at=now - timedelta(days=31))
    with CaptureQueriesContext(connection) as queries:
        assert CleanUpExports.run() == 2

    assert set(DataExport.objects.values_list("pk", flat=True)) == {new.pk, waiting.pk}
    assert DataExportFile.objects.get().export == new
    assert not any("content" in query["sql"] for query in queries)


# --- all of it -------------------------------------------------------------------------------


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_with_a_real_worker(client, loops, hand_in, worker_process, tmp_path):
    pupil = User.objects.create_user("learner@jiki.example", "quilt-zebra-42")
    hand_in(pupil, loops)
    client.force_login(pupil)
    worker_process(env={"EMAIL_URL": f"filemail:///{tmp_path}/mail"})
    client.post(reverse("your_data"))
    wait_until(lambda: "Download your data" in client.get(reverse("your_data")).content.decode())
    wait_until(lambda: "/your-data/" in _mail(tmp_path))
    (path,) = re.findall(r"^http://test.host(/your-data/\S+/)\s*$", _mail(tmp_path), re.MULTILINE)

    with zipfile.ZipFile(io.BytesIO(client.get(path).content)) as found:
        assert len(found.namelist()) == 5


def _mail(tmp_path):
    """The text of the mail, once it is there."""
    for file in (tmp_path / "mail").glob("*"):
        message = message_from_bytes(file.read_bytes())
        return message.get_payload(0).get_payload(decode=True).decode() if message.is_multipart() else ""
    return ""
