"""Edit and retry: which jobs have the form, what it shows and refuses, and the job that comes out of it."""

import pytest

from jobs import bulk
from jobs.broker.connections import get_connection
from jobs.inspection import Count, find
from jobs.job import JobState
from tests.jobs.dashboard.pages import staff, text, url
from tests.sample.commands.notes import Fail, KeepSecret, ShoutNote, WriteNote
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True)


def form(client, job):
    return {field.name: field for field in client.get(url("job_edit", job.id)).context["fields"]}


def test_a_dead_job_is_edited_and_runs_anew(admin_client, worker):
    job = Fail.defer("bad luck")
    worker.run()
    assert url("job_edit", job.id) in text(admin_client, url("job", job.id))
    assert form(admin_client, job)["message"].text == "bad luck"

    checked = admin_client.post(url("job_edit", job.id), {"field-message": "good luck"})
    assert checked.context["changes"] == [("message", "'bad luck'", "'good luck'")]
    assert url("job_edited", job.id) in checked.content.decode()
    done = admin_client.post(url("job_edited", job.id), dict(checked.context["kept"]))

    made = find(done.url.rstrip("/").rpartition("/")[2])
    assert made.id != job.id
    assert made.description == "sample.Fail('good luck')" or "message='good luck'" in made.description
    assert job.state is JobState.DEAD
    page = text(admin_client, done.url)
    assert f"was made from job {job.id}." in page
    assert f'<dt>Edited from</dt><dd><a href="{url("job", job.id)}">{job.id}</a>' in page
    worker.run()  # the link stays
    assert f'<a href="{url("job", job.id)}">{job.id}</a>' in text(admin_client, url("job", made.id))


def test_records_and_numbers_are_typed(admin_client):
    one, other = Note.objects.create(text="a"), Note.objects.create(text="b")
    job = ShoutNote.defer(one, times=3)
    shown = form(admin_client, job)
    assert (shown["note"].kind, shown["note"].text) == ("record", f"sample.Note:{one.pk}")
    assert (shown["times"].kind, shown["times"].text) == ("json", "3")

    filled = {"field-note": f"sample.Note:{other.pk}", "field-times": "4"}
    checked = admin_client.post(url("job_edit", job.id), filled)
    assert [name for name, _old, _new in checked.context["changes"]] == ["note", "times"]


@pytest.mark.parametrize(
    ("filled", "told"),
    [
        ({"field-times": "four"}, "is not valid JSON"),
        ({"field-times": '"four"'}, "annotated int"),
        ({"field-note": "sample.Note:999999"}, "sample.Note:999999"),
        ({"field-note": "nonsense"}, "nonsense"),
        ({"field-times": '{"$nonsense": 1}'}, "$nonsense"),
    ],
)
def test_what_the_command_refuses_is_refused_here_and_makes_no_job(filled, told, admin_client):
    job = ShoutNote.defer(Note.objects.create(text="a"), times=3)
    page = admin_client.post(url("job_edit", job.id), filled)
    assert page.context["changes"] is None
    assert told in page.content.decode().replace("&quot;", '"').replace("&#x27;", "'")
    before = get_connection("default").llen("rq:queue:critical")
    assert admin_client.post(url("job_edited", job.id), filled, follow=True).status_code == 200
    assert get_connection("default").llen("rq:queue:critical") == before


def test_lines_and_defaults_stay_as_they_are(admin_client):
    job = WriteNote.defer("two\nlines")
    page = admin_client.post(url("job_edit", job.id), {"field-text": "two\r\nlines"})
    assert page.context["changes"] == []
    default = Fail.defer()
    assert form(admin_client, default)["message"].text == ""
    page = admin_client.post(url("job_edit", default.id), {"field-message": ""})
    assert page.context["changes"] == []


def test_filtered_fields_are_kept_unseen(admin_client, settings):
    settings.JOBS = {**settings.JOBS, "FILTERED_FIELDS": ["text"]}
    job = WriteNote.defer("hunter2")
    assert "hunter2" not in text(admin_client, url("job_edit", job.id))
    done = admin_client.post(url("job_edited", job.id), {"field-text": "mine"})
    assert find(done.url.rstrip("/").rpartition("/")[2]).args[1:] in (["hunter2"], [])
    assert find(done.url.rstrip("/").rpartition("/")[2]).kwargs in ({"text": "hunter2"}, {})


def test_jobs_without_a_form(admin_client):
    secret = KeepSecret.defer("hunter2")
    change = bulk.start("retry", "dead", {}, Count(7))
    plain = WriteNote.defer("x")
    get_connection("default").hset(plain.key, "data", b"\xff")
    for job_id in (secret.id, change.id, plain.id, "nobody"):
        assert admin_client.get(url("job_edit", job_id)).status_code == 404
        response = admin_client.post(url("job_edited", job_id), {"field-change": "delete"})
        assert response.status_code == 404
    assert url("job_edit", secret.id) not in text(admin_client, url("job", secret.id))


def test_the_form_needs_the_right_to_retry(client):
    job = WriteNote.defer("x")
    client.force_login(staff("view", "delete"))
    assert client.get(url("job_edit", job.id)).status_code == 403
    assert client.post(url("job_edited", job.id), {"field-text": "y"}).status_code == 403
    assert url("job_edit", job.id) not in text(client, url("job", job.id))
    client.force_login(staff("view", "retry"))
    assert client.get(url("job_edit", job.id)).status_code == 200
