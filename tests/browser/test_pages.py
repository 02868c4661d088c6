"""Each page in light and dark, on a desktop and on a phone, with scripts and without: it fits, and all can read it."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.test import override_settings

from config.queues import rq_queues
from tests.browser.scene import Scene
from tests.browser.visitor import DESKTOP, PHONE, address
from tests.sample.commands.notes import Fail

# What the dashboard adds to the admin's page; the admin's own markup around it is Django's.
OURS = "#jobs-page"
RULES = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]},
    "resultTypes": ["violations"],
}


@pytest.fixture
def scene(transactional_db):
    scene = Scene()
    yield scene
    scene.end()


def violations(page):
    """What axe-core finds, a sentence each."""
    for found in Axe().run(page, OURS, RULES).response["violations"]:
        for node in found["nodes"]:
            yield f"{found['id']}: {found['help']}: {node['html'][:200]} {node['any'][0]['message'] if node['any'] else ''}"


def overflow(page):
    """By how much the page is wider than the window."""
    wide, window = page.evaluate("[document.scrollingElement.scrollWidth, innerWidth]")
    if wide > window:
        yield f"{wide} px wide in a window of {window} px"


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_every_page_fits_and_is_accessible(colours, visitor, scene):
    visit = visitor(color_scheme=colours, live=False)
    problems = []
    for name, path, text in scene.pages():
        visit.page.goto(path)
        if text not in visit.page.locator(OURS).inner_text():
            problems.append(f"{name}: {text!r} is not on it")
        for size in (DESKTOP, PHONE):
            visit.page.set_viewport_size(size)
            found = [*overflow(visit.page), *violations(visit.page)]
            problems += [f"{name}, {size['width']} px: {each}" for each in found]
    print("\n".join(problems));     assert problems == []


def test_tmp(visitor, scene):
    import time, json
    visit = visitor(live=False)
    visit.page.goto(address("list", "dead"))
    t = time.time(); visit.page.evaluate(Axe().axe_script); print("inject", time.time() - t)
    for rules in (RULES, {"runOnly": ["color-contrast"], "resultTypes": ["violations"]}):
        t = time.time(); r = visit.page.evaluate("axe.run('#jobs-page', %s)" % json.dumps(rules)); print("run", time.time() - t)
    t = time.time(); visit.page.goto(address("list", "dead")); print("goto", time.time() - t)
    t = time.time(); visit.page.set_viewport_size(PHONE); print("size", time.time() - t)
    t = time.time(); visit.page.emulate_media(color_scheme="dark"); print("dark", time.time() - t)
    t = time.time(); visit.page.locator(OURS).inner_text(); print("text", time.time() - t)
    1/0
