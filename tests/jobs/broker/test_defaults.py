"""A project that names no queues: the queue `default`, in development on a server that the first connection starts."""

import os
import subprocess
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from redis import Redis

from jobs.broker import defaults, embedded
from tests.processes import ROOT, wait_until

PROJECT = """
import sys
from pathlib import Path
from django.conf import settings
apps = [*sys.argv[3].split(), "django.contrib.contenttypes", "django.contrib.auth"]
settings.configure(INSTALLED_APPS=apps, DEBUG=sys.argv[1] == "debug", BASE_DIR=Path(sys.argv[2]))
import django
django.setup()
from jobs import conf
from jobs.broker.connections import get_connection
from jobs.checks import check_redis
from jobs.recurring.entry import listed
{}
"""
LOOK = PROJECT.format(
    "print(settings.RQ_QUEUES['default']['URL'], *conf.queues(), settings.RQ['JOB_CLASS'], *check_redis(None))\n"
    "print([entry.command for entry in listed()])"
)
SET = PROJECT.format(
    "check_redis(None)\n"
    "assert not (settings.BASE_DIR / '.jobs').exists()  # checks start no server\n"
    "get_connection('default').set('who', 'first')\nprint('set', flush=True)\nsys.stdin.read()"
)


def arguments(script, *words):
    return [sys.executable, "-c", script, *map(str, words)]


def run(script, debug, folder, apps="jobs django_rq", **variables):
    environment = {"PATH": os.environ["PATH"], **variables}
    ran = subprocess.run(
        arguments(script, debug, folder, apps), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    return ran.stdout + ran.stderr


pytestmark = pytest.mark.processes


def test_a_project_without_settings_has_a_queue_and_no_recurring_entries(tmp_path):
    said = run(LOOK, "debug", tmp_path)

    assert said.splitlines() == [
        f"{embedded.url(tmp_path / '.jobs')} default jobs.job.MandateJob",
        "[]",
    ]


def test_outside_development_it_needs_an_address_and_says_so(tmp_path):
    assert "jobs.E005" in run(LOOK, "no", tmp_path)
    assert run(LOOK, "no", tmp_path, REDIS_URL="redis://x:1/0").startswith("redis://x:1/0 default")


def test_the_embedded_server_starts_at_the_first_connection_and_ends_with_its_process(tmp_path):
    first = subprocess.Popen(
        arguments(SET, "debug", tmp_path, "jobs django_rq"),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert first.stdout.readline() == b"set\n"
        with Redis.from_url(embedded.url(tmp_path / ".jobs")) as client:
            assert client.get("who") == b"first"
        assert (tmp_path / ".jobs/.gitignore").read_text() == "*\n"
    finally:
        first.kill()
        first.communicate()

    wait_until(lambda: not embedded.EmbeddedValkey(tmp_path / ".jobs").is_running())
    embedded.start_if_needed(tmp_path / ".jobs")  # as the next process that needs it does
    server = embedded._ours.pop(tmp_path / ".jobs")
    try:
        embedded.start_if_needed(tmp_path / ".jobs")  # it runs already
        with Redis.from_url(server.url) as client:
            assert client.get("who") == b"first"
    finally:
        server.stop()
    assert tmp_path / ".jobs" not in embedded._ours


@pytest.mark.parametrize("apps", ["jobs {name}", "{name} jobs"])
def test_an_app_with_the_label_of_ours_is_refused_in_a_sentence(apps, tmp_path):
    (tmp_path / "bakery/jobs").mkdir(parents=True)
    for package in ("bakery", "bakery/jobs"):
        (tmp_path / package / "__init__.py").touch()

    said = run(LOOK, "debug", tmp_path, apps.format(name="bakery.jobs"), PYTHONPATH=str(tmp_path))

    assert said.splitlines()[-1].endswith(
        "'bakery.jobs' in INSTALLED_APPS has the label 'jobs', which is that of django-mandate's own app. "
        "Give yours another one, for instance label = 'bakery_jobs' in its AppConfig."
    )


@pytest.mark.parametrize("queues", [{}, ["default"], {"default": "redis://localhost:6379/0"}, None])
def test_a_table_of_queues_that_is_none_is_refused(queues):
    with override_settings(RQ_QUEUES=queues), pytest.raises(ImproperlyConfigured, match="RQ_QUEUES is") as refusal:
        defaults.fill_in()
    assert "leave RQ_QUEUES out" in str(refusal.value)
    with override_settings(JOBS={"QUEUES": ["default"]}), pytest.raises(ImproperlyConfigured, match=r"\['default'\]"):
        defaults.fill_in()
