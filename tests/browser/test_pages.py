"""Each page in light and dark, on a desktop and on a phone, with scripts and without: it fits, and all can read it."""

import json
import time

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.test import override_settings
from django.urls import get_resolver, resolve, reverse

from config.queues import rq_queues
from jobs.broker.connections import get_connection
from tests.browser.scene import Scene
from tests.browser.visitor import DESKTOP, PHONE
from tests.processes import wait_until
from tests.sample.commands.notes import Fail

# What the dashboard adds to the admin's page; the admin's own markup around it is Django's to mend.
OURS = "#jobs-page"
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
RULES_OF_LOOKS = (
    "color-contrast",
    "link-in-text-block",
    "target-size",
)  # the others see the same in any colour and size
# Put colours in their new place at once. Waiting would not do: what lies in a closed <details> never comes to its end.
FADE = "for (let fading; (fading = document.getAnimations()).length; ) fading.forEach((each) => each.finish())"

# The first page of each kind is looked at in both ways, the others, which differ in little, in one of them in turn.
WAYS = [("light", DESKTOP), ("dark", PHONE)]


@pytest.fixture
def scene(transactional_db):
    scene = Scene()
    yield scene
    scene.end()


def overflow(page):
    """By how much the page is wider than its window, if it is."""
    wide, window = page.evaluate("[document.scrollingElement.scrollWidth, innerWidth]")
    if wide > window:
        yield f"{wide} px wide in a window of {window} px"


def violations(page, rules):
    """What axe-core finds by these rules, a sentence each."""
    options = {"runOnly": rules, "resultTypes": ["violations"], "preload": False}
    for found in page.evaluate(f"axe.run('{OURS}', {json.dumps(options)})")["violations"]:
        for node in found["nodes"]:
            yield f"{found['id']}, {found['help']}: {node['html'][:200]} {node['failureSummary']}"


def look_at(visit, ways=WAYS):
    """What is wrong with the page that is open, in each of these ways of looking at it."""
    visit.page.evaluate(Axe().axe_script)
    for rules, (colours, size) in zip((RULES, RULES_OF_LOOKS), ways, strict=False):
        visit.page.emulate_media(color_scheme=colours)
        visit.page.set_viewport_size(size)
        visit.page.evaluate(FADE)
        for problem in (*overflow(visit.page), *violations(visit.page, rules)):
            yield f"{visit.page.url}, {colours}, {size['width']} px: {problem}"


def content(visit):
    return visit.page.locator(OURS).inner_text()


KINDS = [
    ("list",),
    ("overview", "second page"),
    ("groups", "search", "queue", "profiles", "limits", "batches"),
    ("job", "commands"),
    ("command", "errors", "activity", "workers", "recurring"),
]


def test_each_kind_of_page_is_in_a_test(scene):
    assert sorted(kind for kinds in KINDS for kind in kinds) == sorted(scene.pages())


@pytest.mark.slow
@pytest.mark.parametrize("kinds", KINDS, ids=lambda kinds: kinds[0])
def test_every_page_fits_and_is_accessible(kinds, visitor, scene):
    visit = visitor(live=False)
    found = []
    for kind in kinds:
        for number, (path, text) in enumerate(scene.pages()[kind]):
            visit.page.goto(path)
            if text not in content(visit):
                found.append(f"{path}: {text!r} is not on it")
            found += look_at(visit, [WAYS[number % 2]] if number else WAYS)
    assert not found, "\n".join(found)


def test_every_page_is_whole_without_scripts(visitor, scene):
    visit = visitor(scripted=False, viewport=PHONE, color_scheme="dark")
    found = []
    for pages in scene.pages().values():
        for path, text in pages:
            visit.page.goto(path)
            if text not in content(visit):
                found.append(f"{path}: {text!r} is not on it")
            if visit.page.locator(".jobs-by-script >> visible=true").count():
                found.append(f"{path}: it shows what only works with scripts")
            found += [f"{path}: {problem}" for problem in overflow(visit.page)]
    assert not found, "\n".join(found)


def test_long_names_and_texts_push_nothing_off(visitor, transactional_db, running_worker):
    visit = visitor(live=False)
    long = Fail.defer("x" * 10_000)
    wait_until(lambda: long.state == "dead")
    name = "courses." + "VeryLongCommandName" * 6
    client = get_connection("default")
    client.hincrby(f"jobs:counts:{int(time.time()) // 60 - 3}", f"low|{name}|finished|12", 7)
    client.hset(long.key, "reason", f"{'E' * 10_000}: {'y' * 400}")
    found = []

    def too_wide(visit):
        for size in (DESKTOP, PHONE):
            visit.page.set_viewport_size(size)
            yield from (f"{visit.page.url}: {problem}" for problem in overflow(visit.page))

    for page, about in (
        ("job", [long.id]),
        ("job_edit", [long.id]),
        ("list", ["dead"]),
        ("commands", []),
        ("overview", []),
    ):
        visit.go(page, *about)
        found += too_wide(visit)
    visit.go("list", "dead")
    link = visit.page.locator(".jobs-row").first
    assert "x" * 200 in link.get_attribute("title")
    visit.page.get_by_label(long.id).check()
    visit.follow(visit.page.get_by_role("button", name="Delete"))
    found += too_wide(visit)
    assert not found, "\n".join(found)


def test_a_row_is_a_card_on_a_phone(visitor, scene):
    visit = visitor(live=False, viewport=PHONE)
    page = visit.go("overview")
    pause = page.get_by_role("button", name="Pause mailers")
    assert pause.bounding_box()["x"] + pause.bounding_box()["width"] <= PHONE["width"]
    visit.go("list", "dead")
    assert not page.get_by_label("Command").is_visible()  # the filters are folded
    page.locator(".jobs-filters > summary").click()
    assert page.get_by_label("Command").is_visible()


def test_a_question_is_accessible(visitor, scene):
    visit = visitor(live=False)
    visit.follow(visit.go("job", scene.dead.id).get_by_role("button", name="Delete"))
    assert f"Delete job {scene.dead.id}?" in content(visit)
    assert [*look_at(visit)] == []


def test_a_page_without_redis_is_accessible(visitor, tmp_path):
    visit = visitor(live=False)
    with override_settings(RQ_QUEUES=rq_queues(f"unix://{tmp_path}/none.sock")):
        visit.go("overview")
    assert "none.sock" in content(visit)
    assert [*look_at(visit)] == []
    assert all("503" in complaint for complaint in visit.complaints)
    visit.complaints.clear()


def test_a_list_goes_on_from_page_to_page(visitor, scene):
    visit = visitor(live=False)
    page = visit.go("list", "finished")
    first = page.locator(".jobs-row").count()
    visit.follow(page.get_by_role("link", name="Next page"))
    assert (first, page.locator(".jobs-row").count() > 3) == (25, True)
    assert page.get_by_role("link", name="Next page").count() == 0


def test_a_list_is_filtered_and_grouped(visitor, scene, scripted):
    visit = visitor(live=False, scripted=scripted)
    page = visit.go("list", "dead")
    page.get_by_label("Queue").select_option("background")
    page.get_by_label("Text").fill("cobol")
    visit.press("Show")
    assert page.locator(".jobs-row").all_inner_texts() == ["courses.SyncTrack('cobol')"] * 2

    visit.follow(page.get_by_role("link", name="Clear filters"))
    visit.follow(page.get_by_role("link", name="error", exact=True))
    visit.follow(page.get_by_role("link", name="LookupError"))
    assert page.locator(".jobs-row").count() == 4
    assert page.get_by_label("Error", exact=True).input_value() == "LookupError"


def test_every_page_is_looked_at(client, admin_user, scene):
    known = {
        "job_id": scene.dead.id,
        "batch_id": scene.batch.id,
        "state": "dead",
        "queue": "low",
        "name": "learners",
        "attempt": 1,
    }
    client.force_login(admin_user)
    addresses = get_resolver().namespace_dict["admin"][1].reverse_dict
    pages = set()
    for name in filter(lambda name: str(name).startswith("jobs_"), addresses):
        (_, parameters), *_ = addresses[name][0]
        about = known | ({"name": "courses.SyncTrack"} if name == "jobs_command" else {})
        response = client.get(reverse(f"admin:{name}", args=[about.get(each, "x") for each in parameters]))
        if response.status_code == 200 and response["Content-Type"].startswith("text/html"):
            pages.add(name)
    # A change of many jobs has a page only while it is remembered; tests/jobs/dashboard/test_actions.py follows one.
    assert pages == {resolve(path.partition("?")[0]).url_name for kind in scene.pages().values() for path, _ in kind}
