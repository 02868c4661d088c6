"""`{% job_progress job %}` shows one job and nothing else, behind a signed link, by htmx or by sent events."""

import asyncio
import html
import re
import time
from datetime import datetime, timedelta

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.template import Context, Template
from django.test import AsyncRequestFactory, RequestFactory, override_settings

from jobs import control
from jobs.broker import keys
from jobs.broker.connections import get_connection
from jobs.job import JobState
from jobs.live import links, part, views
from jobs.live.links import Link
from jobs.outbox import hooks, rows
from jobs.outbox.relay import send_all
from tests.jobs.worker import eventually
from tests.sample.commands.acts import Act
from tests.sample.commands.durable import KeepRow
from tests.sample.commands.kept import KeepSecondTime
from tests.sample.commands.notes import Fail, WriteNoteSlowly
from tests.sample.commands.talk import Echo
from tests.sample.commands.waiting import Measure

pytestmark = pytest.mark.django_db(transaction=True)


def tag(job, request=None, options="", **more):
    template = Template("{% load jobs %}{% job_progress job " + options + " %}")
    return template.render(Context({"job": job, "request": request or RequestFactory().get("/"), **more}))


def next_url(shown):
    found = re.search(r'hx-get="([^"]+)"', shown)
    return html.unescape(found[1]) if found else ""


def test_it_follows_a_job_from_its_place_in_the_queue_to_its_end(worker, client, monkeypatch):
    def play(command):
        command.report(12, 40, "grading <b>")
        seen.append(client.get(url).content.decode())

    seen = []
    monkeypatch.setattr(Act, "play", play, raising=False)
    job = Act.defer()
    shown = tag(job)
    assert "Waiting for its turn" in shown
    assert 'hx-trigger="every 1s"' in shown
    url = next_url(shown)

    worker.run()
    (running,) = seen
    assert "Under way" in running
    assert '<progress class="jobs-live-bar" max="100" value="30"' in running
    assert "12 of 40" in running
    assert "grading &lt;b&gt;" in running
    assert next_url(running) == url

    answer = client.get(url)
    assert "Done" in answer.content.decode()
    assert not next_url(answer.content.decode())  # it is followed no further
    assert "HX-Refresh" not in answer.headers
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_page_is_loaded_anew_at_the_end_if_it_asks_for_that(worker, client, monkeypatch):
    monkeypatch.setattr(part, "JUST", 0.0)
    url = next_url(tag(Echo.defer(1), options="refresh=True"))
    assert "HX-Refresh" not in client.get(url).headers
    worker.run()
    assert client.get(url).headers["HX-Refresh"] == "true"


def ended(how, worker):
    job = Fail.defer() if how == "dead" else Echo.defer("the secret result")
    if how == "cancelled":
        control.cancel(job)
    if how == "deleted":
        control.delete(job)
    if how == "waiting":
        return Echo.defer(2, prereq_jobs=[job])
    if how == "scheduled":
        return Echo.defer(2, wait=60)
    if how == "retrying":
        job = KeepSecondTime.defer("fail")
    worker.run()
    return job


@pytest.mark.parametrize(
    ("how", "words", "is_over"),
    [
        ("finished", "Done", True),
        ("dead", "Failed", True),
        ("cancelled", "Stopped", True),
        ("deleted", "Ended", True),
        ("waiting", "Waiting for other work", False),
        ("scheduled", "Waiting for its time", False),
        ("retrying", "Will be tried again", False),
    ],
)
def test_each_state_has_its_words_and_no_error_argument_or_result(how, words, is_over, worker):
    job = ended(how, worker)
    for shown in (tag(job), tag(job.id)):
        assert words in shown
        assert ("hx-get" in shown) is not is_over
        for private in ("no luck", "RuntimeError", "secret", "sample."):
            assert private not in shown


def test_without_a_job_there_is_nothing_and_of_an_unknown_one_little():
    assert tag(None) == tag("") == ""
    assert "Ended" in tag("no-such-job")


def test_a_job_that_the_open_transaction_enqueues_is_not_over(client):
    with transaction.atomic():
        shown = tag(Echo.defer(1))
        assert "Waiting for its turn" in shown
    assert "Waiting for its turn" in client.get(next_url(shown)).content.decode()


def test_one_that_is_forgotten_at_its_end_has_ended(worker, client):
    url = next_url(tag(WriteNoteSlowly.defer("x")))
    worker.run()
    assert "Ended" in client.get(url).content.decode()


@pytest.mark.parametrize("change", [lambda token: token + "x", lambda token: "x" + token, lambda token: "a:b:c"])
def test_a_link_that_we_did_not_sign_is_none(change, client):
    job = Echo.defer(1)
    token = Link(job.id, job.origin, False).token
    assert client.get(f"/jobs/progress/{token}/").status_code == 200
    assert client.get(f"/jobs/progress/{change(token)}/").status_code == 404
    assert client.get(f"/jobs/progress/{change(token)}/events/").status_code == 404


def test_a_link_to_a_queue_that_is_gone_is_none(client):
    assert client.get(f"/jobs/progress/{Link('x', 'no-queue', False).token}/").status_code == 404


def test_a_link_is_read_only(client):
    token = Link("x", "default", False).token
    assert client.post(f"/jobs/progress/{token}/").status_code == 405


@override_settings(ROOT_URLCONF="users.urls")
def test_a_project_that_has_not_included_the_views_is_told_how():
    with pytest.raises(ImproperlyConfigured, match=r"include\('jobs.live.urls'\)"):
        tag(Echo.defer(1))


def test_while_redis_is_away_the_page_is_there_and_asks_again(valkey, client):
    job = Echo.defer(1)
    valkey.kill()
    shown = tag(job)
    assert "Waiting for its turn" in shown
    assert tag(job.id) == ""
    assert client.get(next_url(shown)).status_code == 503
    valkey.start()


# --- sent events -----------------------------------------------------------------------------


def test_under_asgi_the_server_sends_the_parts(worker):
    request = AsyncRequestFactory().get("/")
    shown = tag(Echo.defer(1), request, csp_nonce="abc")
    assert re.search(r'data-jobs-events="/jobs/progress/[^"]+/events/"', shown)
    assert "hx-get" not in shown
    assert re.search(r'<script src="[^"]*jobs/progress\S*\.js" defer nonce="abc"></script>', shown)
    assert "onload" not in shown and "style=" not in shown


@pytest.mark.parametrize("is_asgi", [False, True])
def test_a_page_during_which_the_job_ends_is_loaded_anew_once(is_asgi, worker, client, monkeypatch):
    """Its view has read the row before the end of the job; the tag looks after it."""
    monkeypatch.setattr(part, "JUST", 60.0)
    request = AsyncRequestFactory().get("/") if is_asgi else RequestFactory().get("/")
    job = Echo.defer(1)
    worker.run()
    shown = tag(job, request, "refresh=True")
    assert "Done" in shown
    if is_asgi:
        assert "data-jobs-events" in shown
    else:
        answer = client.get(next_url(shown))
        assert next_url(answer.content.decode()) and "HX-Refresh" not in answer.headers  # not yet
    assert not next_url(tag(job)) and "data-jobs-events" not in tag(job, request)

    ended = datetime.fromisoformat(job.connection.hget(job.key, "ended_at").decode())
    job.connection.hset(job.key, "ended_at", (ended - timedelta(seconds=60)).isoformat())
    if not is_asgi:
        answer = client.get(next_url(shown))
        assert not next_url(answer.content.decode()) and answer.headers["HX-Refresh"] == "true"
    again = tag(job, request, "refresh=True")
    assert not next_url(again) and "data-jobs-events" not in again


async def opened(job, *, refreshes=False):
    token = Link(job.id, job.origin, refreshes).token
    answer = await views.events(AsyncRequestFactory().get("/"), token)
    assert answer.headers["Content-Type"] == "text/event-stream"
    return aiter(answer)


async def heard(stream):
    return (await asyncio.wait_for(anext(stream), 20)).decode()


def test_a_stream_has_each_change_and_the_end_without_polling(worker, monkeypatch):
    monkeypatch.setattr(views, "LOOK_EVERY", 60.0)  # woken by the report and by the end, or never

    async def main():
        go_on = asyncio.Event()
        loop = asyncio.get_running_loop()

        def play(command):
            eventually(lambda: get_connection("default").exists(keys.waiters(job.id)))
            command.report(1, 4)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(20)

        monkeypatch.setattr(Act, "play", play, raising=False)
        job = await Act.adefer()
        stream = await opened(job, refreshes=True)
        assert await heard(stream) == "retry: 1000\n\n"
        assert "Waiting for its turn" in await heard(stream)
        running = asyncio.create_task(asyncio.to_thread(worker.run))
        event = await heard(stream)
        assert event.startswith("event: part\ndata: ")
        assert 'value="25"' in event
        client = get_connection("default")
        await sync_to_async(eventually)(lambda: client.exists(keys.waiters(job.id)))
        go_on.set()
        assert "Done" in await heard(stream)
        assert await heard(stream) == "event: end\ndata: refresh\n\n"
        with pytest.raises(StopAsyncIteration):
            await heard(stream)
        await running

    asyncio.run(main())


def test_a_stream_looks_now_and_then_and_keeps_the_connection(monkeypatch):
    monkeypatch.setattr(views, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(views, "SILENT", 0.02)

    async def main():
        job = await Echo.adefer(1)
        stream, events = await opened(job), []
        while ":\n\n" not in events:
            events.append(await heard(stream))
        await stream.aclose()
        assert events[0] == "retry: 1000\n\n"
        assert sum("Waiting" in event for event in events) == 1
        assert not any("event: end" in event for event in events)

    asyncio.run(main())


def test_a_stream_that_has_been_open_for_long_ends_and_is_opened_anew(monkeypatch):
    monkeypatch.setattr(views, "LONGEST", 0.0)

    async def main():
        stream = await opened(await Echo.adefer(1))
        assert [event.decode() async for event in stream] == ["retry: 1000\n\n"]

    asyncio.run(main())


def test_a_stream_outlives_an_outage(valkey, worker, monkeypatch):
    monkeypatch.setattr(views, "LOOK_EVERY", 0.05)

    async def main():
        job = await Echo.adefer(1)
        stream = await opened(job)
        await heard(stream)
        await heard(stream)
        await asyncio.to_thread(valkey.restart)
        await asyncio.to_thread(eventually, worker.step)
        assert "Done" in await heard(stream)

    asyncio.run(main())


@pytest.fixture
def unsent(valkey):
    """A durable job that only the outbox has: Redis was away at its commit, and is back. No relay runs."""
    hooks._failed.clear()
    valkey.kill()
    job = KeepRow.defer("x")
    valkey.start()
    hooks._failed.clear()
    return job


def test_the_stream_of_an_unsent_job_looks_now_and_then_and_leaves_no_connection_open(unsent, monkeypatch):
    """Those of the database, which the threads of a pool would keep, and miss after a restart of the database."""
    looks = []

    def look(job):
        shown = part.look(job)
        looks.append(connections["default"])
        assert looks[-1].connection is not None
        return shown

    monkeypatch.setattr(views, "look", look)
    monkeypatch.setattr(views, "LOOK_EVERY", 0.2)
    monkeypatch.setattr(views, "SILENT", 0.02)

    async def main():
        stream, events = await opened(unsent), []
        began = time.monotonic()
        while len(looks) < 4:
            events.append(await heard(stream))
        assert len(looks) <= (time.monotonic() - began) / 0.2 + 2
        await stream.aclose()
        assert sum("Waiting for its turn" in event for event in events) == 1
        assert not any("event: end" in event for event in events)
        return [connection.connection for connection in looks]

    left = asyncio.run(main())
    assert left == [None] * len(left)


def test_a_job_that_a_relay_sends_meanwhile_is_not_over(unsent, monkeypatch):
    find = rows.find

    def relay_first(job_id):
        monkeypatch.undo()
        assert send_all() == 1
        return find(job_id)

    monkeypatch.setattr(rows, "find", relay_first)
    job = Link(unsent.id, unsent.origin, False).job
    assert part.look(job) == (JobState.QUEUED, None, False)


def test_without_asgi_there_is_no_stream(client):
    job = Measure.defer(1)
    token = Link(job.id, job.origin, False).token
    assert client.get(f"/jobs/progress/{token}/events/").status_code == 404
    assert links.read(token) == Link(job.id, job.origin, False)
