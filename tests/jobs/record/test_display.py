"""What may be shown of a call, a context or a text, wherever it is shown."""

import io
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils.safestring import mark_safe
from rq import Queue

from jobs import Mandate
from jobs.broker.connections import get_connection
from jobs.inspection import JobQuery
from jobs.job import JobState
from jobs.record import arguments, display
from tests.sample.commands.notes import Fail, WriteNote
from tests.sample.commands.talk import Echo
from tests.sample.models import Note

SECRET = "hunter2"


@pytest.fixture
def viewer(django_user_model):
    """A client of a user who may view the dashboard, and no payload."""
    user = django_user_model.objects.create(email="viewer@jiki.example", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_dashboard"))
    client = Client()
    client.force_login(user)
    return client


def everything_shown_of(viewer, job):
    """The pages, the API's answers and the command line's output that show the job."""
    addresses = [
        reverse("admin:jobs_job", args=[job.id]),
        reverse("admin:jobs_list", args=[job.state.value]),
        reverse("admin:jobs_api_job", args=[job.id]),
        reverse("admin:jobs_api_jobs", args=[job.state.value]),
    ]
    shown = []
    for address in addresses:
        answer = viewer.get(address)
        assert answer.status_code == 200, address
        shown.append(answer.text)
    for command in (["show", job.id], ["show", "--json", job.id], ["list"], ["list", "--json"]):
        output = io.StringIO()
        call_command("jobs", *command, stdout=output)
        shown.append(output.getvalue())
    return "\n".join(shown)


@pytest.mark.django_db(transaction=True)
def test_a_filtered_value_of_the_context_is_shown_nowhere(viewer, admin_client):
    with Mandate.context(token=SECRET, shop="Bakery", nested={"secret": SECRET, "n": 7}):
        job = WriteNote.defer("x")
    shown = everything_shown_of(viewer, job)

    assert SECRET not in shown
    assert "token=[filtered]" in shown
    assert "Bakery" in shown
    page = admin_client.get(reverse("admin:jobs_job", args=[job.id])).text
    assert SECRET not in page.partition("<h2>Payload</h2>")[0]
    assert SECRET in page  # the payload of a reader who may view payloads


@pytest.mark.django_db(transaction=True)
def test_filtered_arguments_are_hidden_at_any_depth(viewer):
    job = Echo.defer({"headers": [{"token": SECRET}], "pairs": {1: 2, "password": SECRET}})
    shown = everything_shown_of(viewer, job)

    assert SECRET not in shown
    assert "[filtered]" in shown


@pytest.mark.django_db(transaction=True)
def test_filtered_arguments_of_plain_rq_jobs_are_hidden(viewer):
    Queue("default", connection=get_connection("default"), serializer="json").enqueue(
        "tests.sample.functions.add", kwargs={"token": SECRET, "pin": 7, "nested": {"api_key": SECRET}}
    )
    (row,) = JobQuery(state=JobState.QUEUED).all()
    shown = everything_shown_of(viewer, row.job)

    assert SECRET not in shown
    assert "pin" in shown


@pytest.mark.django_db(transaction=True)
def test_an_error_text_and_a_traceback_hide_filtered_literals(viewer, worker):
    job = Fail.defer(f"refused: password='{SECRET}', {{'token': \"{SECRET}\"}}, token={SECRET!r}")
    worker.run()
    shown = everything_shown_of(viewer, job)

    assert "refused: password=[filtered]" in shown.replace("&#x27;", "'")
    assert SECRET not in shown


def test_a_call_reads_as_a_person_would_write_it():
    call = display.call("sample.WriteNote", [{"$record": "users.User:7"}], {"at": {"$date": "2026-01-01"}})

    assert call == "sample.WriteNote(users.User:7, at=2026-01-01)"
    assert display.call("nobody.Knows", ["x"], {}) == "nobody.Knows(...)"


@pytest.mark.parametrize(
    ("encoded", "shown"),
    [
        ([1, "a"], "[1, 'a']"),
        ({"a": "2026-01-01", "token": "x"}, "{'a': '2026-01-01', 'token': [filtered]}"),
        ({"$dict": [["$a", 1], ["token", "x"]]}, "dict([['$a', 1], ['token', [filtered]]])"),
        ({"$tuple": [{"secret": 1}]}, "tuple([{'secret': [filtered]}])"),
        (arguments.encode(datetime(2026, 7, 1, 10, 30)), "2026-07-01T10:30:00"),
        (arguments.encode(datetime(2026, 7, 1, 10, 30, tzinfo=UTC)), "2026-07-01T10:30:00+00:00"),
        (
            arguments.encode(datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Paris"), fold=1)),
            "2026-10-25T02:30:00+01:00[Europe/Paris]",
        ),
        (arguments.encode([date(2026, 7, 1)]), "[2026-07-01]"),
        (arguments.encode(time(10, 30, tzinfo=ZoneInfo("Europe/Paris"))), "10:30:00[Europe/Paris]"),
        (arguments.encode(timedelta(days=1, seconds=5)), "P1DT00H00M05S"),
        (arguments.encode(UUID(int=7)), "00000000-0000-0000-0000-000000000007"),
        (arguments.encode(2**70), str(2**70)),
        (arguments.encode(Note.Mood.CALM), "Note.Mood.CALM"),
        (arguments.encode(mark_safe("token='x'")), "'token=[filtered]'"),
        ({"$subclass": ["a:B", "dict", {"token": 1}]}, "{'token': [filtered]}"),
        ({"$datetime": ["yesterday", "Mars/Olympus", 0]}, "datetime(['yesterday', 'Mars/Olympus', 0])"),
        ({"$datetime": ["token='x'", None, 0]}, "datetime(['token=[filtered]', None, 0])"),
        ({"$enum": ["a:b", "token='x'"]}, "enum(['a:b', 'token=[filtered]'])"),
        ({"$int": "token='x'"}, "int('token=[filtered]')"),
        ({"$datetime": 7}, "datetime(7)"),
        ({"$enum": [{"token": 1}]}, "enum([{'token': [filtered]}])"),
        ({"$subclass": []}, "subclass([])"),
    ],
)
def test_a_value_reads_as_a_person_would_write_it(encoded, shown):
    assert display.value(encoded) == shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("f(token='a b', n=1)", "f(token=[filtered], n=1)"),
        ('{"password": "a\\"b"}', '{"password": [filtered]}'),
        ("api_key=17", "api_key=[filtered]"),
        ("my_token='x', tokens=[1]", "my_token='x', tokens=[1]"),
        ("send(token=token)", "send(token=token)"),
        ("token=b'abc'", "token=[filtered]"),
    ],
)
def test_a_text_hides_the_literals_behind_filtered_names(line, shown):
    assert display.text(line) == shown


@pytest.mark.parametrize("stored", [b"", b"nonsense", b"[1]", b'{"values": 7}', b"\xff"])
def test_an_unreadable_context_is_shown_as_unreadable(stored):
    assert display.context(stored) == "(unreadable)"


def test_a_context_shows_language_zone_and_values():
    stored = orjson.dumps({"language": "hu", "zone": "Europe/Budapest", "values": {"shop": 7, "token": "x"}})

    assert display.context(stored) == "language='hu', zone='Europe/Budapest', shop=7, token=[filtered]"


def test_the_repr_of_a_command_hides_filtered_fields(settings):
    settings.JOBS = settings.JOBS | {"FILTERED_FIELDS": ["text"]}

    assert repr(WriteNote("x")) == "WriteNote(text=[filtered])"
