"""An author imports a course from the admin, and follows it until it is published."""

import threading

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from jiki.courses import Course
from tests.jiki.service import answer


def lesson(name, *, after=None):
    """The answer with a lesson; it comes once `after` is set."""
    give = answer(body={"title": name.title(), "text": f"All about {name}."})

    def wait_and_give(handler):
        assert after is None or after.wait(30)
        give(handler)

    return wait_and_give


@pytest.fixture
def gate():
    gate = threading.Event()
    yield gate
    gate.set()


def test_a_course_is_imported_and_followed_until_it_is_published(visitor, content, gate):
    Course.objects.create(slug="loops")
    course = answer(body={"title": "Loops & lists", "lessons": ["while", "for"]})
    content.answers = [course, lesson("while", after=gate), lesson("for", after=gate)]
    author = visitor()
    page = author.page
    page.goto(reverse("admin:jiki_course_changelist"))
    page.locator("input[name=_selected_action]").check()
    page.locator("select[name=action]").select_option("import_courses")
    author.follow(page.get_by_role("button", name="Go"))
    assert "“loops” is being imported." in author.told()

    author.follow(page.get_by_role("link", name="Progress"))
    expect(page.get_by_role("heading", name="import course loops")).to_be_visible()
    expect(page.locator("#content")).to_contain_text("ImportLessons")
    gate.set()
    expect(page.get_by_text("successful,")).to_be_visible(timeout=30_000)  # by itself

    page.goto("/courses/loops/")
    expect(page.get_by_role("heading", name="Loops & lists")).to_be_visible()
    expect(page.get_by_role("heading", name="While")).to_be_visible()
    page.goto(reverse("admin:jiki_course_changelist"))
    expect(page.locator(".field-title")).to_have_text("Loops & lists")
