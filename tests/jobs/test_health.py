"""The probes of the web process: what a request needs, what they report, and that they never hang."""

import threading
import time
from math import inf

import pytest
from django.db import OperationalError, connections
from django.db.migrations.recorder import MigrationRecorder
from django.test import override_settings

from config.queues import rq_queues
from jobs import health
from jobs.inspection import version

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture(autouse=True)
def first_look(monkeypatch):
    monkeypatch.setattr(health, "_checks", {})
    monkeypatch.setattr(health, "_migrated", False)
    monkeypatch.setattr(health, "PATIENCE", 30.0)  # the machine may be busy
    monkeypatch.setattr(version, "_published_at", inf)  # tests of the doctor read the published versions


def ask(client, path="/readyz", **headers):
    reply = client.get(path, **headers)
    return reply.status_code, reply.json().get("problems", [])


def test_all_is_well(client):
    assert ask(client, "/healthz") == (200, [])
    assert ask(client, "/readyz") == (200, [])
    assert client.head("/readyz").status_code == 200
    assert client.get("/readyz")["Cache-Control"] == "no-store"
    assert client.post("/healthz").status_code == 405
    assert client.get("/readyz/").status_code == 404


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_probe_needs_no_host_name_and_no_tls(path, client, settings):
    settings.SECURE_SSL_REDIRECT = True
    settings.ALLOWED_HOSTS = ["jiki.example"]

    assert client.get(path, headers={"host": "10.1.2.3:8000"}).status_code == 200
    assert client.get("/", headers={"host": "10.1.2.3:8000"}).status_code == 400


def test_without_redis_the_process_is_alive_and_not_ready(client, tmp_path, caplog):
    with override_settings(RQ_QUEUES=rq_queues(f"unix://{tmp_path}/none.sock")):
        assert ask(client, "/healthz") == (200, [])
        assert ask(client) == (503, ["Redis: no answer"])
    assert "none.sock" in caplog.text
    assert ask(client) == (200, [])


def test_the_databases_that_are_down_are_named(client, monkeypatch):
    def down(*args):
        raise OperationalError("password authentication failed for user jiki")

    monkeypatch.setattr(type(connections["other"]), "connect", down)

    status, problems = ask(client)
    assert status == 503
    assert problems == ["database default: no answer", "database other: no answer", "migrations: no answer"]
    assert ask(client, "/healthz") == (200, [])


def test_unapplied_migrations_are_counted_and_checked_until_they_are_applied(client, monkeypatch):
    recorder = MigrationRecorder(connections["default"])
    recorder.record_unapplied("jobs", "0007_cursor")
    try:
        assert ask(client) == (503, ["migrations: 1 are not applied"])
    finally:
        recorder.record_applied("jobs", "0007_cursor")
    assert ask(client) == (200, [])
    monkeypatch.setattr(health, "unapplied_migrations", pytest.fail)
    assert ask(client) == (200, [])


def test_a_hanging_check_is_reported_in_time_and_runs_once_for_all_probes(client, monkeypatch):
    asked, answer = [], threading.Event()

    def hang():
        asked.append(threading.current_thread())
        answer.wait(30)
        return ""

    monkeypatch.setattr(health, "_ask_redis", hang)
    monkeypatch.setattr(health, "PATIENCE", 0.2)
    for _ in range(3):
        began = time.monotonic()
        status, problems = ask(client)
        assert status == 503
        assert "Redis: no answer within 0.2 s" in problems
        assert time.monotonic() - began < 10  # not as long as it hangs
    assert len(asked) == 1
    answer.set()
    asked[0].join()
    monkeypatch.setattr(health, "PATIENCE", 5.0)

    assert ask(client) == (200, [])
