"""A learner's day, in a browser: she signs up, submits, fails, passes, and takes her data with her."""

import re
import zipfile
from email import message_from_bytes

import pytest
from playwright.sync_api import expect

from jiki import first_exercises
from jiki.models import Exercise
from tests.processes import wait_until

ADDRESS, PASSWORD = "learner@jiki.example", "quilt-zebra-42"
RIGHT = 'def greet(name="you"):\n    return f"Hello, {name}!"\n'
WRONG = 'def greet(name="you"):\n    return "Hello!"\n'
JOBS = {
    "users.SendWelcomeEmail": 1,
    "jiki.ProcessSubmission": 2,
    "jiki.RefreshStatistics": 1,
    "jiki.PrepareExport": 1,
    "jiki.SendExportEmail": 1,
}


@pytest.fixture
def page(browser, site, transactional_db):
    first_exercises.load(Exercise)  # the flush of an earlier test has taken them
    context = browser.new_context(base_url=site, accept_downloads=True)
    context.set_default_timeout(20_000)  # milliseconds
    yield context.new_page()
    context.close()


def mailed(folder, subject):
    """The text of the mail with that subject, once it is there."""
    texts = []

    def is_there():
        for file in folder.glob("*"):
            message = message_from_bytes(file.read_bytes())
            if subject in str(message["Subject"]) and message.is_multipart():
                texts.append(message.get_payload(0).get_payload(decode=True).decode())
        return bool(texts)

    wait_until(is_there)
    return texts[0]


def press(page, button):
    with page.expect_navigation():
        page.get_by_role("main").get_by_role("button", name=button).click()


def submit(page, code):
    page.goto("/exercises/say-hello/")
    page.locator("[name=code]").fill(code)
    press(page, "Submit")


def test_a_learners_day(page, running_worker, worker_process, visitor, tmp_path):
    worker_process("low", env={"EMAIL_URL": f"filemail:///{running_worker.mail}"})
    page.goto("/signup/")
    page.locator("[name=email]").fill(ADDRESS)
    page.locator("[name=password]").fill(PASSWORD)
    press(page, "Sign up")
    (login,) = set(re.findall(r"http://test.host(/\S*login\S*)", mailed(running_worker.mail, "Welcome")))

    page.goto(login)
    page.locator("[name=username]").fill(ADDRESS)
    page.locator("[name=password]").fill(PASSWORD)
    press(page, "Log in")

    submit(page, WRONG)
    expect(page.locator(".banner.failed")).to_be_visible()
    expect(page.locator(".checks li.failed").first).to_contain_text("it should return 'Hello, Ada!'")
    submit(page, RIGHT)
    expect(page.locator(".banner.passed")).to_contain_text("Passed. Well done!")

    page.goto("/your-data/")
    press(page, "Ask for your data")
    expect(page.get_by_role("link", name="Download your data")).to_be_visible()
    link = mailed(running_worker.mail, "data")
    (path,) = set(re.findall(r"^http://test.host(/your-data/\S+/)\s*$", link, re.MULTILINE))
    page.goto("/your-data/")
    with page.expect_download() as download:
        page.evaluate("path => { location.href = path }", path)
    download.value.save_as(tmp_path / "data.zip")
    with zipfile.ZipFile(tmp_path / "data.zip") as found:
        assert "account.json" in found.namelist()
        assert sum(name.endswith(".py") for name in found.namelist()) == 2

    dashboard = visitor(live=False)
    for command, count in JOBS.items():
        dashboard.go("list", "finished", query=f"?command={command}")
        assert dashboard.page.locator(".jobs-row").count() == count, command
