"""The event loops of workers, as the pages, the metrics, the command line and the doctor show them."""

import json
import os
import time
from io import StringIO

import pytest
from django.core.management import call_command
from django.urls import reverse

from jobs.doctor.workers import findings
from jobs.inspection import workers
from jobs.worker import heartbeat
from jobs.worker.connection import Wire
from jobs.worker.scoreboard import Board
from tests.jobs.dashboard.pages import text
from tests.jobs.dashboard.test_api import get
from tests.jobs.dashboard.test_api import tokens as tokens

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def board(valkey):
    """A worker of 2 threads and 100 tasks runs a job in a thread and two on its loop, which was late."""
    board, now = Board(2, 100), time.monotonic()
    for place in (0, 2, 50):
        board.start(place, now, now + 60, b"job", b"w1.%d" % place, b"default")
    board.show_lag(1.5)
    wire = Wire("default")
    heartbeat.beat(wire, "w1", os.getpid(), time.time(), ["default"], board)
    heartbeat.register(wire, "w1", ["default"])
    wire.close()
    return board


def test_a_worker_says_what_its_loop_runs(board, admin_client):
    worker, _ = workers.get("w1")

    assert (worker.busy, worker.threads) == (1, 2)
    assert (worker.tasks_running, worker.tasks, worker.loop_lag) == (2, 100, 1.5)
    page = text(admin_client, reverse("admin:jobs_worker", args=["w1"]))
    assert "2 / 100, 1.500 s late at most" in page
    assert "1 / 2 + 2 / 100" in text(admin_client, reverse("admin:jobs_workers"))


def test_the_metrics_the_command_line_and_the_doctor_too(board, client):
    lines = get(client, "metrics").content.decode().splitlines()
    assert 'jobs_loop_lag_seconds{worker="w1"} 1.5' in lines
    assert {"jobs_tasks 100.0", "jobs_tasks_running 2.0", "jobs_threads_busy 1.0"} <= {*lines}

    call_command("jobs", "stats", "--json", stdout=(output := StringIO()))
    assert json.loads(output.getvalue())["workers"]["tasks_running"] == 2
    call_command("jobs", "stats", stdout=(output := StringIO()))
    assert "2 of 100 tasks on event loops, 1.50 s late" in output.getvalue()

    (found,) = [each for each in findings() if "event loop" in each.what]
    assert found.what == "The event loop of the worker w1 was blocked for 1.5 s."


def test_a_worker_without_a_loop_shows_none(valkey, client, admin_client):
    wire = Wire("default")
    heartbeat.beat(wire, "w1", os.getpid(), time.time(), ["default"], Board(2))
    heartbeat.register(wire, "w1", ["default"])

    assert "loop_lag" not in {name.decode() for name in valkey.client().hkeys("rq:worker:w1")}
    assert "event loop" not in text(admin_client, reverse("admin:jobs_worker", args=["w1"]))
    assert b"jobs_loop_lag_seconds" not in get(client, "metrics").content
