"""The tests of the project, from `defer` to the pages. `test_settings.py` runs them once for each kind of settings."""

import io
import json
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import AsyncClient
from django.urls import get_script_prefix, resolve, reverse
from django.utils import timezone

from jobs import queues, scheduler
from jobs.broker.connections import get_connection
from jobs.inspection import find
from jobs.job import JobState
from jobs.testing import Kit
from tests.foreign.shop import tasks
from tests.foreign.shop.commands import Break, Count, Enter, MailLink, Pack, Place, Postpone, Ship
from tests.foreign.shop.models import Line, Order, Parcel
from tests.jobs.worker import eventually

pytestmark = [pytest.mark.django_db(transaction=True, databases="__all__")]
of_tenants = pytest.mark.skipif("blue" not in settings.DATABASES, reason="a project without tenants")
needs_admin = pytest.mark.skipif(not apps.is_installed("django.contrib.admin"), reason="a project without the admin")

QUEUES = list(settings.RQ_QUEUES)
DASHBOARD = "admin:jobs_dashboard_changelist"
PAGES = [
    "",
    *(f"jobs/{state}/" for state in JobState),
    "queue/mail/",
    "recurring/",
    "workers/",
    "commands/",
    "profiles/",
]


def commit():
    """Where there is no autocommit, what was written so far."""
    if not transaction.get_autocommit():
        transaction.commit()


def an_order(number="A1"):
    order = Order.objects.create(number=number)
    commit()
    return order


def in_a_week():
    """In the form that the project's code has: without a zone under USE_TZ=False."""
    return (
        timezone.localtime().replace(microsecond=0) + timedelta(days=7)
        if settings.USE_TZ
        else (datetime.now().replace(microsecond=0) + timedelta(days=7))
    )


def manage(*words, code=0):
    """What `manage.py` says, and that it ends with this code."""
    said = io.StringIO()
    ended = 0
    try:
        call_command(*words, stdout=said, stderr=said)
    except CommandError as error:
        ended, _ = error.returncode, said.write(str(error))
    assert ended == code, said.getvalue()
    return said.getvalue()


def due_at(job):
    return datetime.fromtimestamp(get_connection(QUEUES[0]).zscore(f"rq:scheduled:{job.origin}", job.id), UTC)


class Browser:
    """A client that follows the addresses on the pages: below a prefix, the handler gets what follows it."""

    def __init__(self, client):
        self.client = client
        self.dashboard = reverse(DASHBOARD)

    def path(self, address):
        assert address.startswith(get_script_prefix())
        return "/" + address.removeprefix(get_script_prefix())

    def get(self, address, **options):
        return self.client.get(self.path(address), **options)

    def text(self, page):
        answer = self.get(self.dashboard + page)
        assert answer.status_code == 200, answer
        return answer.content.decode()

    def send(self, action, **data):
        """Press a button, and confirm it where the page asks; returns the page after it."""
        answer = self.client.post(self.path(self.dashboard + action), {"next": self.dashboard + "workers/", **data})
        if answer.status_code == 200:
            answer = self.client.post(self.path(self.dashboard + action), {**data, "confirmed": "1"})
        assert answer.status_code == 302, answer
        assert answer.url.startswith(self.dashboard)
        return self.get(answer.url).content.decode()


@pytest.fixture
def browser(client):
    client.force_login(get_user_model().objects.create_superuser(**boss()))
    commit()
    return Browser(client)


def boss():
    return {get_user_model().USERNAME_FIELD: "boss@shop.example", "password": "x"} | (
        {} if settings.KIND == "own_user" else {"email": "boss@shop.example"}
    )


# --- the engine ------------------------------------------------------------------------------


def test_a_worker_runs_jobs_of_every_sort(worker_process):
    order, week = an_order(), in_a_week()
    ship, postpone, broken = Ship.defer(order), Postpone.defer(order, week), Break.defer()
    many = Count.defer_many([() for _ in range(5)])
    after = Count.using(prereq_jobs=[ship, many[0]]).defer()
    task = tasks.count.enqueue(1)
    parcel = Parcel.objects.create()
    line = Line.objects.create(parcel=parcel, number=7)
    commit()
    pack = Pack.defer(parcel, line)
    later = Count.using(wait=3_600).defer()
    commit()

    worker_process(*QUEUES, burst=True, concurrency=2).wait()

    order.refresh_from_db()
    line.refresh_from_db()
    assert line.is_packed
    assert pack.return_value() == [parcel, line]
    assert (order.shipped, order.due) == (True, week)
    assert (ship.state, ship.return_value()) == ("finished", "A1")
    due, now = postpone.return_value()
    assert due == week
    assert timezone.is_aware(now) == settings.USE_TZ
    assert [each.return_value() for each in [*many, after]] == [1] * 6
    assert tasks.count.get_backend().get_result(task.id).return_value == [1, 1]
    assert (broken.state, broken.reason, later.state) == ("retrying", "RuntimeError: no luck", "scheduled")
    assert Order.objects.count() == 1


def test_a_link_in_a_mail_is_the_same_in_a_worker(worker_process):
    order = an_order()
    link = MailLink.defer(order)
    commit()

    worker_process("mail", burst=True, concurrency=1).wait()

    assert link.return_value() == MailLink.run(order) == f"{get_script_prefix()}orders/{order.pk}/"


def test_recurring_entries_run_at_their_times(worker_process):
    worker = worker_process(QUEUES[0], concurrency=1)
    eventually(
        lambda: (
            "each second" in entries()
            and [run for run in entries()["each second"].runs() if find(run.job_id).state == "finished"]
        )
    )
    night = entries()["at night"].next_at.astimezone(ZoneInfo("Europe/Berlin"))
    worker.stop()
    assert (night.hour, night.minute) == (3, 30)


def entries():
    return {entry.name: entry for entry in scheduler.entries()}


def test_a_job_waits_for_its_transaction_and_goes_with_it():
    with transaction.atomic():
        kept = MailLink.defer(an_order_in_it())
        assert kept.state is None
    commit()
    with pytest.raises(LookupError), transaction.atomic():
        dropped = MailLink.defer(an_order_in_it())
        raise LookupError
    commit()
    assert (kept.state, dropped.state) == (JobState.QUEUED, None)
    assert {name: length for name, length in queues.lengths().items() if length} == {"mail": 1}


def test_an_async_view_runs_defers_and_enqueues(worker_process):
    answer = async_to_sync(AsyncClient().get)("/place/A1/").json()
    ship, link = (find(id) for id in answer["jobs"])
    assert (ship.state, link.state) == (JobState.QUEUED, JobState.SCHEDULED)
    worker_process(*QUEUES, burst=True, concurrency=1).wait()
    assert ship.return_value() == "A1"
    assert tasks.count.get_backend().get_result(answer["task"]).return_value == [1, 1]


@of_tenants
def test_no_job_finds_the_tenant_of_the_job_before(worker_process):
    jobs = [Enter.defer("blue"), Enter.defer("blue", breaks=True), Enter.defer("blue"), Enter.defer("blue")]
    worker_process(*QUEUES, burst=True, concurrency=1).wait()
    nothing = ["", "default", "", False]
    assert [job.return_value() for job in jobs] == [nothing, None, nothing, nothing]
    assert jobs[1].reason == f"RuntimeError: {nothing}"


@of_tenants
def test_a_record_comes_from_the_database_of_its_tenant(worker_process):
    jobs = [Place.defer(Order.objects.using(alias).create(number="A1")) for alias in ("blue", "default")]
    worker_process(*QUEUES, burst=True, concurrency=1).wait()
    assert [job.return_value() for job in jobs] == ["blue", "default"]


def an_order_in_it():
    return Order.objects.create(number="in a transaction")


def test_without_a_transaction_a_job_is_written_at_once():
    assert Count.defer().state is JobState.QUEUED


def test_a_time_of_the_projects_is_that_time():
    week = in_a_week()
    job = Count.using(wait_until=week).defer()
    assert due_at(job) == (week if settings.USE_TZ else timezone.make_aware(week))


def test_the_testing_kit_does_what_a_worker_does():
    order = an_order()
    with Kit() as kit:
        with kit.assert_enqueued_with(Ship, args=(order,)):
            Ship.defer(order)
            commit()
        kit.perform_enqueued_jobs()
        commit()
        kit.perform_enqueued_jobs()
        kit.assert_performed_jobs(2)
    order.refresh_from_db()
    assert order.shipped


# --- the command line ------------------------------------------------------------------------


def test_the_checks_find_nothing():
    assert "no issues" in manage("check", "--fail-level", "WARNING")
    assert "No changes" in manage("makemigrations", "jobs", "--check", "--dry-run")


def test_the_doctor_finds_nothing_where_a_worker_runs(worker_process):
    worker_process(*QUEUES)
    client = get_connection(QUEUES[0])
    eventually(lambda: client.exists(scheduler.Scheduler.scheduler_lock_key))  # a worker takes it in its first turn
    client.config_set("appendfsync", "everysec")
    assert json.loads(manage("jobs_doctor", "--json")) == []


def test_jobs_are_listed_shown_and_changed():
    later = Count.using(wait_until=in_a_week()).defer()
    commit()
    hour_ago = datetime.now() - timedelta(hours=1)
    listed = manage("jobs", "list", "--state", "scheduled", "--since", hour_ago.isoformat(timespec="minutes"))
    assert later.id in listed
    assert later.id in manage("jobs", "show", later.id)
    assert "each second" not in manage("jobs", "stats")
    manage("jobs", "cancel", later.id)
    assert later.state is JobState.CANCELLED
    manage("jobs", "retry", later.id)
    assert later.state is JobState.QUEUED
    assert "returned 0" in manage("jobs", "run", "shop.Count")
    commit()
    manage("jobs", "run", "shop.Count", "--defer")
    record = {"$record": f"shop.Order:{an_order().pk}"}
    manage("jobs", "run", "shop.Ship", "--args", json.dumps([record]), "--defer")
    assert queues.lengths()[QUEUES[0]] == 3


def test_the_rows_of_all_models_are_dumped():
    an_order()
    assert [row["model"] for row in json.loads(manage("dumpdata", "jobs", "django_rq", "shop"))] == ["shop.order"]


# --- probes, data, metrics -------------------------------------------------------------------


@pytest.mark.parametrize("probe", ["/healthz", "/readyz"])
def test_probes_answer(probe, client):
    assert client.get(probe).status_code == 200


@needs_admin
@pytest.mark.parametrize("page", ["metrics/", "api/overview/", "api/jobs/scheduled/"])
def test_a_token_reads_the_data(page, client):
    browser = Browser(client)
    Count.using(wait=60).defer()
    commit()
    answers = [
        browser.get(browser.dashboard + page, headers={"Authorization": f"Bearer {token}"})
        for token in ("right", "wrong")
    ]
    assert [answer.status_code for answer in answers] == [200, 401]


# --- pages -----------------------------------------------------------------------------------


@needs_admin
def test_every_page_is_there_and_its_links_lead_to_addresses_of_the_site(browser):
    job = Ship.using(wait_until=in_a_week()).defer(an_order())
    commit()
    for page in [*PAGES, f"job/{job.id}/"]:
        links = re.findall(r'(?:href|action|formaction)="(/[^"?#]*)', browser.text(page))
        assert links
        for link in set(links) - {get_script_prefix(), get_script_prefix().rstrip("/")}:  # "View site"
            if not link.startswith(get_script_prefix() + "static/"):
                resolve(browser.path(link))


@needs_admin
def test_the_link_to_a_record_leads_to_it(browser):
    order = an_order()
    job = Ship.using(wait=60).defer(order)
    commit()
    link = f"{browser.dashboard.removesuffix('jobs/dashboard/')}shop/order/{order.pk}/change/"
    assert f'href="{link}"' in browser.text(f"job/{job.id}/")
    assert browser.get(link).status_code == 200


@needs_admin
def test_jobs_are_changed_on_their_pages(browser):
    jobs = [Count.using(wait=3_600).defer() for _ in range(5)]
    commit()
    first, second, third, fourth, fifth = (job.id for job in jobs)
    browser.send(f"job/{first}/run_now/")
    browser.send(f"job/{second}/cancel/")
    browser.send(f"job/{third}/delete/")
    browser.send(f"job/{fourth}/copy/")
    browser.send(f"job/{first}/move/", queue="mail")
    browser.send("jobs/scheduled/cancel/", job=[fifth])
    assert [job.state for job in jobs] == ["queued", "cancelled", None, "scheduled", "cancelled"]
    assert queues.lengths()["mail"] == 1
    browser.send(f"job/{second}/retry/")
    assert jobs[1].state is JobState.QUEUED
    from django.contrib.admin.models import LogEntry

    assert LogEntry.objects.count() == 7


@needs_admin
def test_a_job_is_rescheduled_to_the_time_on_the_form(browser):
    job = Count.using(wait=3_600).defer()
    commit()
    week = in_a_week()
    browser.send(f"job/{job.id}/reschedule/", at=week.strftime("%Y-%m-%dT%H:%M:%S"))
    assert due_at(job) == (week if settings.USE_TZ else timezone.make_aware(week))
    field = re.findall(r'type="datetime-local"[^>]*value="([^"]*)"', browser.text(f"job/{job.id}/"))
    assert datetime.fromisoformat(field[0]) == week.replace(tzinfo=None)


@needs_admin
def test_a_list_keeps_its_filters(browser):
    kept = Count.using(wait=3_600, queue="mail").defer()
    other = Count.using(wait=3_600).defer()
    commit()
    local = (datetime.now() - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M")
    listing = f"{browser.dashboard}jobs/scheduled/?queue=mail&since={local}"
    text = browser.get(listing).content.decode()
    assert (kept.id in text, other.id in text) == (True, False)
    page = browser.get(f"{browser.dashboard}job/{kept.id}/", headers={"referer": f"http://testserver{listing}"})
    assert page.context["list"] == listing


@needs_admin
def test_queues_and_entries_are_paused_and_run(browser):
    with_entries = scheduler.Scheduler(QUEUES[0], connection=get_connection(QUEUES[0]))
    with_entries.follow()
    browser.send("queue/mail/pause/")
    browser.send("recurring/at night/pause/")
    browser.send("recurring/each second/run/")
    assert queues.paused() == {"mail"}
    assert scheduler.get("at night").paused
    assert len(scheduler.get("each second").runs()) == 1
    browser.send("queue/mail/resume/")
    browser.send("recurring/at night/resume/")
    assert not scheduler.get("at night").paused
    with_entries.end()


@needs_admin
def test_strangers_are_sent_away(client):
    browser = Browser(client)
    assert browser.get(browser.dashboard).status_code == 302
    assert browser.get(browser.dashboard + "metrics/").status_code == 404
