"""What scripts add: pages that refresh by themselves, but not under the reader's hands; and keys."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.sessions.models import Session
from playwright.sync_api import expect

from jobs import control, queues
from tests.browser.visitor import PHONE, address
from tests.processes import wait_until
from tests.sample.commands.notes import Fail, WriteNote
from tests.sample.commands.trouble import Ruled

EVERY = 2_000  # milliseconds between two refreshes


COUNTING = """
window.asked = window.answered = 0;
addEventListener("htmx:beforeRequest", () => { asked += 1; });
addEventListener("htmx:afterRequest", () => { answered += 1; });
"""


class Clock:
    """The page's clock, which stands still unless it is told to go on."""

    def __init__(self, page):
        self.page = page
        page.add_init_script(COUNTING)
        now = datetime.now(UTC)
        page.clock.install(time=now)
        page.clock.pause_at(now + timedelta(minutes=1))  # it goes on until then

    def tick(self):
        """Let the time pass in which the page refreshes, if it does. Returns whether it did; it has been answered."""
        before = self.page.evaluate("asked")
        self.page.clock.run_for(EVERY)
        if self.page.evaluate("asked") == before:
            return False
        wait_until(lambda: self.page.evaluate("asked === answered"))
        self.page.clock.run_for(100)  # htmx settles what it has put in
        return True


@pytest.fixture
def visit(visitor):
    return visitor()


@pytest.fixture
def page(visit):
    return visit.page


@pytest.fixture
def clock(page):
    return Clock(page)


def dead(number):
    jobs = Fail.defer_many([(f"failure {each}",) for each in range(number)])
    for job in jobs:
        wait_until(lambda job=job: job.state == "dead")
    return jobs


# --- it refreshes by itself ------------------------------------------------------------------


def test_a_page_follows_what_happens(visit, page):
    visit.go("overview")
    page.evaluate("document.body.dataset.loaded = 'once'")
    row = page.get_by_role("row").filter(has_text="low")
    expect(row).not_to_contain_text("paused")
    queues.pause("low")
    expect(row).to_contain_text("paused")
    WriteNote.defer("x", queue="low")
    expect(page.get_by_role("status")).to_contain_text("1 job waits in it")
    assert page.evaluate("document.body.dataset.loaded") == "once"


def test_a_job_is_followed_to_its_end(visit, page):
    job = WriteNote.defer("x", queue="low")
    visit.go("job", job.id)
    control.move(job, "default")
    expect(page.locator(".jobs-pill").first).to_have_text("finished")


def test_it_asks_every_two_seconds(visit, clock):
    visit.go("overview")
    assert [clock.tick() for _ in range(3)] == [True, True, True]


# --- not under the reader's hands ------------------------------------------------------------


def test_the_switch_stops_it_on_every_page_until_it_is_on_again(visit, page, clock):
    visit.go("overview")
    page.get_by_label("Live").select_option("off")
    assert not clock.tick()
    visit.go("workers")
    expect(page.get_by_label("Live")).to_have_value("off")
    assert not clock.tick()
    page.get_by_label("Live").select_option("2")
    page.locator("h1").click()
    assert clock.tick()
    page.get_by_label("Live").select_option("10")
    assert [clock.tick() for _ in range(5)] == [False, False, False, False, True]


def test_a_selected_row_stops_it(visit, page, clock):
    (job,) = dead(1)
    visit.go("list", "dead")
    page.get_by_label(job.id).check()
    page.locator("h1").click()
    assert not clock.tick()
    page.get_by_label(job.id).uncheck()
    page.locator("h1").click()
    assert clock.tick()


def test_all_rows_are_selected_at_once(visit, page, clock):
    dead(3)
    visit.go("list", "dead")
    page.get_by_label("Select all rows").check()
    assert page.locator("input[name=job]:checked").count() == 3
    assert not clock.tick()


def test_what_was_opened_stays_open(visit, page, clock):
    job = Ruled.defer("flaky")
    wait_until(lambda: job.state == "retrying")
    visit.go("job", job.id)
    opened = page.locator(".jobs-library").first
    opened.locator("summary").click()
    page.locator("h1").click()
    assert clock.tick()
    expect(opened).to_have_attribute("open", "")
    opened.locator("summary").click()
    page.locator("h1").click()
    assert clock.tick()
    expect(opened).not_to_have_attribute("open", "")


@pytest.mark.parametrize("seconds", [0, 7])
def test_a_time_that_nobody_has_changed_does_not_stop_it(seconds, visit, page, clock):
    due = (datetime.now(UTC) + timedelta(hours=2)).replace(minute=0, second=seconds, microsecond=0)
    visit.go("job", WriteNote.defer("x", wait_until=due).id)
    assert clock.tick()
    visit.more()
    page.get_by_label("Runs at").fill("2035-01-02T03:04:05")
    page.locator("h1").click()
    assert not clock.tick()


def test_a_menu_and_what_was_chosen_in_it_stop_it(visit, page, clock):
    visit.go("job", WriteNote.defer("x", queue="low").id)
    visit.more()
    menu = page.get_by_label("Move to")
    menu.focus()
    assert not clock.tick()
    menu.select_option("mailers")
    page.locator("h1").click()
    assert not clock.tick()
    assert menu.input_value() == "mailers"
    visit.more()
    menu.select_option("critical")
    page.locator("h1").click()
    assert clock.tick()


def test_selected_text_stops_it(visit, page, clock):
    visit.go("overview")
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#jobs-part h2'))")
    assert not clock.tick()
    page.evaluate("getSelection().empty()")
    assert clock.tick()


def test_an_answer_that_comes_too_late_is_not_shown(visit, page, clock):
    (job,) = dead(1)
    visit.go("list", "dead")

    held = []
    page.route("**/jobs/dead/", lambda route: held.append(route))
    page.clock.run_for(EVERY)
    wait_until(lambda: page.evaluate("asked") == 1 and held)
    page.get_by_label(job.id).check()
    held[0].continue_()
    wait_until(lambda: page.evaluate("answered") == 1)
    assert page.get_by_label(job.id).is_checked()


def test_new_rows_are_counted_and_come_when_they_are_asked_for(visit, page, clock):
    dead(2)
    visit.go("list", "dead")
    first = page.locator(".jobs-row").first.get_attribute("href")
    dead(3)
    assert clock.tick()
    new = page.get_by_role("button", name="3 new: show")
    expect(new).to_be_visible()
    assert page.locator(".jobs-row").first.get_attribute("href") == first
    assert page.locator(".jobs-row").count() == 2
    page.keyboard.press("n")
    expect(page.locator(".jobs-row")).to_have_count(5)
    expect(new).to_be_hidden()


def test_rows_that_are_gone_leave_at_once(visit, page, clock):
    jobs = dead(2)
    visit.go("list", "dead")
    control.delete(jobs[0])
    assert clock.tick()
    expect(page.locator(".jobs-row")).to_have_count(1)


def test_a_pointer_on_a_table_holds_it(visit, page, clock):
    visit.go("overview")
    page.get_by_role("row").filter(has_text="low").hover()
    assert not clock.tick()
    expect(page.get_by_text("refresh paused", exact=True)).to_be_visible()
    page.locator("h1").hover()
    assert clock.tick()
    expect(page.get_by_text("refresh paused", exact=True)).to_be_hidden()


# --- nothing jumps ---------------------------------------------------------------------------


def test_focus_and_scrolling_stay_where_they_are(visit, page, clock):
    page.set_viewport_size(PHONE)
    dead(25)
    visit.go("list", "dead")
    link = page.locator(".jobs-row").nth(20)
    name = link.inner_text()
    link.focus()
    where = "[document.activeElement.innerText, document.activeElement.getBoundingClientRect().top, scrollY]"
    before = page.evaluate(where)
    page.evaluate("document.activeElement.old = true")

    assert clock.tick()

    assert page.evaluate("document.activeElement.old") is None  # it is another element
    assert page.evaluate(where) == before
    assert before[0] == name
    assert before[2] > 300


def test_the_focus_goes_to_the_neighbour_when_its_job_is_gone(visit, page, clock):
    jobs = dead(3)
    visit.go("list", "dead")
    links = page.locator(".jobs-row")
    second, third = links.nth(1).get_attribute("href"), links.nth(2).get_attribute("href")
    links.nth(1).focus()
    control.delete(next(job for job in jobs if job.id in second))
    assert clock.tick()
    assert page.evaluate("document.activeElement.getAttribute('href')") == third


# --- what goes wrong -------------------------------------------------------------------------


def test_who_was_signed_out_comes_to_the_login(visit, page, clock):
    visit.go("overview")
    Session.objects.all().delete()
    clock.page.clock.run_for(EVERY)
    page.wait_for_url("**/admin/login/**")
    assert page.get_by_label("Password").is_visible()


def test_an_old_page_says_so(visit, page, clock):
    visit.go("overview")
    old = page.get_by_text("Not refreshed: the server does not answer.")
    expect(old).to_be_hidden()
    page.route("**/admin/jobs/**", lambda route: route.abort())
    assert clock.tick()
    expect(old).to_be_visible()
    page.unroute("**/admin/jobs/**")
    assert clock.tick()
    expect(old).to_be_hidden()
    assert visit.complaints
    visit.complaints.clear()


# --- times -----------------------------------------------------------------------------------


def test_the_zone_can_be_chosen(visitor, scripted):
    visit = visitor(scripted=scripted, live=False)
    page = visit.go("overview")
    summary = page.locator("#jobs-zone > summary")
    summary.click()
    page.get_by_label("Time zone").fill("Asia/Tokyo")
    visit.press("Show", page.locator("#jobs-zone"))
    assert summary.inner_text() == "Asia/Tokyo"
    visit.go("workers")
    assert summary.inner_text() == "Asia/Tokyo"


# --- keys ------------------------------------------------------------------------------------


def outline(page):
    return page.evaluate("getComputedStyle(document.activeElement).outlineStyle")


def test_a_slash_goes_to_the_search(visit, page):
    visit.go("list", "dead")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "q"
    assert outline(page) == "solid"
    page.keyboard.type("a/b")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=a%2Fb**")


def test_a_question_mark_lists_the_keys(visit, page):
    visit.go("overview")
    page.keyboard.press("?")
    expect(page.get_by_role("heading", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="Keys")).to_be_hidden()


def test_arrows_move_in_a_list_and_enter_opens(visit, page, clock):
    dead(4)
    visit.go("list", "dead")
    links = page.locator(".jobs-row")
    for key, at in (("Down", 0), ("Down", 1), ("Down", 2), ("Up", 1), ("Up", 0), ("Up", 0)):
        page.keyboard.press(f"Arrow{key}")
        expect(links.nth(at)).to_be_focused()
        assert outline(page) == "solid"
    page.keyboard.press("ArrowDown")
    assert clock.tick()
    assert outline(page) == "solid"
    second = links.nth(1).get_attribute("href")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{second}")


def test_arrows_stop_at_the_last_row_of_groups_too(visit, page):
    dead(1)
    visit.go("list", "dead", query="?group=error")
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**error=RuntimeError")


def test_everything_can_be_reached_with_tab_and_is_seen_then(visit, page):
    dead(1)
    visit.go("list", "dead")
    page.locator("#jobs-page a").first.focus()
    seen = []
    while page.evaluate("document.getElementById('jobs-page').contains(document.activeElement)"):
        seen.append(page.evaluate("document.activeElement.outerHTML.slice(0, 80)"))
        inner = "datetime-local" in seen[-1]  # the focus is on a part inside of it, which the browser marks
        assert inner or outline(page) != "none", seen[-1]
        page.keyboard.press("Tab")
    reachable = page.locator("#jobs-page :is(a, button, input:not([type=hidden]), select):visible").count()
    assert len(seen) >= reachable > 25
    assert address("workers") in "".join(seen)
