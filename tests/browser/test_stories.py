"""The stories of docs/howto/use-the-dashboard.md, by mouse and by keyboard alone, with the clicks that it states."""

import re
import time
from pathlib import Path

import pytest
from django.test import Client
from playwright.sync_api import expect
from redis import Redis

from jobs import queues
from jobs.broker import keys
from jobs.broker.connections import get_connection, new_pool
from tests.browser.conftest import THREADS
from tests.browser.visitor import address
from tests.courses.commands.lessons import AwardBadge, ExportProgress, RunSubmission
from tests.jobs.dashboard.pages import send, staff, url
from tests.processes import wait_until
from tests.sample.commands.long import Patient
from tests.sample.commands.notes import Fail, WriteNote
from tests.sample.commands.trouble import TroubleOnce
from tests.sample.models import Note
from users.models import User

PAGE = Path(__file__).resolve().parent.parent.parent / "docs/howto/use-the-dashboard.md"
CLICKS = {
    story: (int(cause), 0 if cure == "none" else int(cure))
    for story, cause, cure in re.findall(
        r"^\| \[(.+?)\]\(#.+?\) \| (\d) \| (\d|none) \|$", PAGE.read_text(), re.MULTILINE
    )
}
MOST = (3, 2)  # clicks to the cause, and from there to the cure
FURTHEST = 400  # times that Tab is pressed on the way to a link


class OnCall:
    """An engineer on call, who begins on the overview. Her clicks are counted; with the keyboard, Enter is one."""

    def __init__(self, visit, *, has_mouse):
        self.visit, self.page, self.has_mouse = visit, visit.page, has_mouse
        self.clicks = 0

    def begins(self, story):
        self.to_the_cause, self.to_the_cure = CLICKS[story]
        self.visit.go("overview")

    def follow(self, target):
        self.clicks += 1
        if self.has_mouse:
            self.visit.follow(target)
            return
        expect(target).to_be_visible()
        for _ in range(FURTHEST):
            if target.evaluate("element => element === document.activeElement"):
                break
            self.page.keyboard.press("Tab")
        with self.page.expect_navigation():
            self.page.keyboard.press("Enter")

    def press(self, name, within="#jobs-page", asks=""):
        """Press a button, and the one on the page that asks."""
        self.follow(self.page.locator(within).get_by_role("button", name=name, exact=True))
        if asks:
            assert self.page.locator("#jobs-question").inner_text() == asks
            self.follow(self.page.locator("button[name=confirmed]"))

    def search(self, text):
        if self.has_mouse:
            self.page.get_by_label("Search jobs in all states").fill(text)
            self.follow(self.page.locator(".jobs-find button"))
            return
        self.clicks += 1
        self.page.keyboard.press("/")
        self.page.keyboard.type(text)
        with self.page.expect_navigation():
            self.page.keyboard.press("Enter")

    def knows(self, *texts, within="#jobs-page"):
        """She has found the cause: what the page says of it, and the clicks until then."""
        for text in texts:
            expect(self.page.locator(within).first).to_contain_text(text, timeout=15_000)  # milliseconds
        assert self.clicks == self.to_the_cause
        self.clicks = 0

    def has_cured_it(self):
        assert self.clicks == self.to_the_cure


@pytest.fixture(params=["mouse", "keyboard"])
def on_call(request, visitor):
    return OnCall(visitor(), has_mouse=request.param == "mouse")


def test_each_story_is_told_in_few_clicks():
    assert len(CLICKS) == 7
    for cause, cure in CLICKS.values():
        assert (cause <= MOST[0], cure <= MOST[1]) == (True, True)


def usual(name, text):
    """What was usual at this hour of the last days: attempts, failed, dead, p50, p95, seconds and wait."""
    for days in range(1, 8):
        get_connection("default").hset(f"jobs:digest:{int(time.time()) // 3_600 - 24 * days}", f"command|{name}", text)


def count(minutes_ago, label, number):
    get_connection("default").hincrby(f"jobs:counts:{int(time.time()) // 60 - minutes_ago}", label, number)


def are_in(jobs, state):
    for job in jobs:
        wait_until(lambda job=job: job.state == state)


def patient(folder):
    """A job that runs until `folder/release` is there."""
    folder.mkdir(exist_ok=True)
    job = Patient.defer(str(folder / "started"), str(folder / "release"))
    wait_until((folder / "started").exists)
    return job


def test_the_mail_provider_is_down(on_call):
    usual("sample.TroubleOnce", "100 1 1 0.1 0.2 9 0")
    are_in(TroubleOnce.defer_many([("flaky", 1)] * 6, queue="mailers"), "dead")
    on_call.begins("the mail provider is down")
    on_call.knows("sample.TroubleOnce fails: 100 % of 6 attempts", "100 % FlakyError; usually 1 % fail at this hour")
    on_call.press("Pause mailers", ".jobs-problem")
    on_call.has_cured_it()
    assert on_call.visit.told() == "The queue mailers is paused."
    assert queues.paused() == {"mailers"}

    on_call.press("Resume mailers")
    assert queues.paused() == set()


def test_a_command_became_slow(on_call, tmp_path):
    usual("sample.Patient", "100 0 0 0.1 0.26 9 0")
    count(0, "default|sample.Patient|finished|23", 20)
    job = patient(tmp_path)
    on_call.begins("a command became slow")
    card = on_call.page.locator(".jobs-problem").first
    expect(card).to_contain_text("sample.Patient is slow: 95 % take less than")
    on_call.follow(card.get_by_role("link", name="Show the command"))
    longest = on_call.page.locator("section").filter(has_text="Longest-running jobs")
    on_call.follow(longest.get_by_role("link").first)
    on_call.press("Show its stack")
    on_call.knows("long.py", within="#jobs-stack")
    on_call.press("Interrupt", asks=f"Interrupt job {job.id}?")
    on_call.has_cured_it()
    assert on_call.visit.told() == f"Job {job.id} was interrupted."
    assert job.state == "cancelled"


def test_all_jobs_of_one_user(on_call):
    ada, grace = (User.objects.create_user(f"{name}@jiki.example", "x" * 12) for name in ("ada", "grace"))
    hers = [RunSubmission.defer(ada, "maze-runner"), RunSubmission.defer(ada, "maze-solver")]
    others = RunSubmission.defer(grace, "maze-runner")
    ExportProgress.defer(ada)
    AwardBadge.defer(ada, "first steps", wait=3_600)
    are_in([*hers, others], "dead")
    on_call.begins("all jobs of one user")
    on_call.search(f"args.user:{ada.pk}")
    expect(on_call.page.locator(".jobs-row")).to_have_count(4)
    on_call.follow(on_call.page.locator(".jobs-tabs").get_by_role("link", name="Dead 2"))
    on_call.knows("maze-runner", "maze-solver", "SandboxError")
    on_call.press("Delete all that match", asks="Delete 2 jobs?")
    on_call.has_cured_it()
    assert on_call.visit.told() == "2 jobs were deleted."
    assert ([job.state for job in hers], others.state) == ([None, None], "dead")


def test_a_deploy_broke_one_command(on_call):
    jobs = TroubleOnce.defer_many([("broken", 1)] * 6)
    are_in(jobs, "dead")
    on_call.begins("a deploy broke one command")
    expect(on_call.page.locator(".jobs-problem").first).to_contain_text("sample.TroubleOnce fails")
    on_call.follow(on_call.page.locator(".jobs-nav").get_by_role("link", name="Errors"))
    on_call.knows("RuntimeError", "as planned", "tests.sample.commands.trouble:")
    on_call.press("Retry the dead jobs of RuntimeError", asks="Retry 6 jobs?")
    on_call.has_cured_it()
    are_in(jobs, "finished")
    on_call.visit.go("errors")
    expect(on_call.page.locator("#jobs-part")).to_contain_text("6 passed, 0 failed, 0 pending")


def wait_for_looks(number):
    """
    Wait until the worker's parent has asked so many times what is paused. A look may have begun before the pause, and
    the children know of it when the next one begins.
    """
    with Redis(connection_pool=new_pool("default", socket_timeout=20)).monitor() as monitor:
        looks = (each for each in monitor.listen() if each["command"] == f"EXISTS {keys.SUSPENDED}")
        for _ in range(number):
            next(looks)


def test_a_queue_starves(on_call, tmp_path):
    for number in range(THREADS):
        patient(tmp_path / str(number))
    for minutes_ago in range(5):
        count(minutes_ago, "default|sample.Patient|finished|20", 300)
    starved = WriteNote.defer("at last", queue="background")
    get_connection("background").hset(starved.key, "enqueued_at", "2026-01-01T00:00:00.000000Z")
    on_call.begins("a queue starves")
    reason = f"{THREADS} threads, 100 % of the last 5 min on queues above"
    on_call.knows("background is starved: its first job has waited", reason)
    on_call.press("Pause default")
    on_call.has_cured_it()
    wait_for_looks(3)
    WriteNote.defer("not now")
    for number in range(THREADS):
        (tmp_path / str(number) / "release").touch()
    wait_until(Note.objects.filter(text="at last").exists)
    assert not Note.objects.filter(text="not now").exists()


def test_a_job_is_stuck(on_call, tmp_path):
    job = patient(tmp_path)
    on_call.begins("a job is stuck")
    on_call.follow(on_call.page.locator(".jobs-states").get_by_role("link", name="running"))
    on_call.follow(on_call.page.locator(".jobs-row"))
    expect(on_call.page.locator("#jobs-page")).to_contain_text("Running for")
    on_call.press("Show its stack")
    on_call.knows("long.py", within="#jobs-stack")
    on_call.press("Interrupt", asks=f"Interrupt job {job.id}?")
    on_call.has_cured_it()
    assert job.state == "cancelled"


def test_who_deleted_the_jobs(on_call):
    jobs = Fail.defer_many([("a pear",), ("an apple",), ("another apple",)])
    are_in(jobs, "dead")
    somebody, browser = staff("view", "delete"), Client()
    browser.force_login(somebody)
    send(browser, url("many_delete", "dead"), all="1", text="apple")
    on_call.begins("who deleted the jobs")
    on_call.follow(on_call.page.locator(".jobs-nav").get_by_role("link", name="Activity"))
    on_call.knows(somebody.get_username(), "2 jobs were deleted.", "text: apple", jobs[1].id[:12])
    on_call.has_cured_it()

    on_call.page.goto(address("job", jobs[1].id))
    expect(on_call.page.locator("#jobs-page")).to_contain_text(f"{somebody.get_username()}: 2 jobs were deleted.")
    assert all("404" in complaint for complaint in on_call.visit.complaints)
    on_call.visit.complaints.clear()
