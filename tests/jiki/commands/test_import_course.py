"""A course is imported by a flow: fetched, parsed, a job for each lesson, published; the author is told."""

import pytest
from django.core import mail
from django.urls import reverse

from jiki.commands.import_course import ImportCourse
from jiki.commands.import_lesson import ImportLesson
from jiki.courses import Course, Lesson
from jobs.testing import assert_idempotent
from tests.jiki.service import answer
from users.models import User

pytestmark = pytest.mark.django_db

COURSE = {"title": "Loops & lists", "lessons": ["while", "for"]}


@pytest.fixture
def author(db):
    return User.objects.create_superuser("author@example.org")


@pytest.fixture
def course(db):
    return Course.objects.create(slug="loops")


def lesson(name):
    return answer(body={"title": name.title(), "text": f"All about {name}."})


def perform(jobs):
    while jobs.perform_enqueued_jobs():
        pass


def test_a_course_is_imported_and_published_and_its_author_is_told(service, course, author, jobs, client):
    service.answers = [answer(body=COURSE), lesson("while"), lesson("for")]
    Lesson.objects.create(course=course, slug="old", position=0)
    flow = ImportCourse.run(course, author)
    assert jobs.assert_flow(
        "import course loops",
        {
            "FetchCourse": (),
            "ParseCourse": {"FetchCourse"},
            "ImportLessons": {"ParseCourse"},
            "PublishCourse": {"ImportLessons"},
        },
    )
    assert ImportCourse.run(course, author).duplicate
    assert client.get(reverse("course", args=["loops"])).status_code == 404
    perform(jobs)

    assert flow.has_succeeded and [request["path"] for request in service.requests] == [
        "/exercises/courses/loops",
        "/exercises/courses/loops/while",
        "/exercises/courses/loops/for",
    ]
    page = client.get(reverse("course", args=["loops"])).content.decode()
    assert page.index("<h2>While</h2>") < page.index("<h2>For</h2>") and "<h1>Loops &amp; lists</h1>" in page
    (message,) = mail.outbox
    assert message.subject == "Loops & lists is published" and message.to == ["author@example.org"]
    assert "/courses/loops/" in str(message.body)


def test_a_lesson_that_cannot_be_had_keeps_the_course_back_until_a_person_tries_again(service, course, author, jobs):
    service.answers = [answer(body=COURSE), answer(404), lesson("for")]
    flow = ImportCourse.run(course, author)
    perform(jobs)

    course.refresh_from_db()
    assert course.published_at is None and flow.counts["dead"] == 1
    assert [message.subject for message in mail.outbox] == ["Loops & lists could not be imported"]
    assert reverse("admin:jiki_course_change", args=[course.pk]) in str(mail.outbox[0].body)

    service.answers = [lesson("while")]
    assert flow.retry_dead() == 1
    perform(jobs)
    course.refresh_from_db()
    assert course.published_at and mail.outbox[-1].subject == "Loops & lists is published"


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        {"title": "x"},
        {"title": "x", "lessons": ["a b"]},
        {"title": 7, "lessons": ["a"]},
        {"title": "x", "lessons": ["a" * 51]},
        {"title": "x", "lessons": [f"lesson-{number}" for number in range(1_001)]},
    ],
)
def test_a_course_that_cannot_be_one_is_dead_with_the_reason(body, service, course, author, jobs):
    service.answers = [answer(body=body)]
    flow = ImportCourse.run(course, author)
    perform(jobs)

    assert "UnusableAnswerError" in flow.errors()[0].reason and not course.lessons.exists()


def test_a_lesson_may_be_imported_twice(service, course):
    service.answers = [lesson("while")] * 4
    assert_idempotent(ImportLesson, Lesson.objects.create(course=course, slug="while", position=0).pk)


def test_it_is_started_from_the_admin_and_followed_there(service, course, author, jobs, client):
    client.force_login(author)
    fields = {"action": "import_courses", "_selected_action": [course.pk]}
    changelist = reverse("admin:jiki_course_changelist")
    assert "“loops” is being imported. " in client.post(changelist, fields, follow=True).content.decode()
    assert "“loops” is being imported already. " in client.post(changelist, fields, follow=True).content.decode()

    course.refresh_from_db()
    page = client.get(reverse("admin:jiki_course_change", args=[course.pk])).content.decode()
    assert reverse("admin:jobs_batch", args=[course.flow_id]) in page and "hx-get" in page
