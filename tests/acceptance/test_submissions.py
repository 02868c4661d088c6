"""Learners submit through a real web server, and a real worker checks what they sent."""

import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib import import_module
from statistics import median, quantiles

import httpx
import psutil
import pytest
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.urls import reverse

from jiki.models import Exercise, Submission, SubmissionFile
from jobs import inspection
from jobs.broker.embedded import dismiss, stop_with_us
from tests.jiki.conftest import CHECKS, RIGHT, WRONG
from tests.processes import ROOT, child_environment, wait_until
from users.models import User

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

LEARNERS, EACH = 20, 5
POLL = 0.3  # seconds
LOOK = 0.05  # seconds between two pages meanwhile


@pytest.fixture
def exercise():
    return Exercise.objects.create(slug="adding", title="Adding", text="Add two things.", checks=CHECKS)


@pytest.fixture
def site(transactional_db, tmp_path):
    """Gunicorn, as it serves in production; its `open(user)` is a browser in which that user is logged in."""
    socket, log = tmp_path / "web.sock", tmp_path / "web.log"
    command = [sys.executable, "-m", "gunicorn", "config.wsgi:application", "--bind", f"unix:{socket}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--threads", "8", "--no-control-socket"],
            cwd=ROOT,
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    guard = stop_with_us(process.pid)

    @contextmanager
    def open_as(user):
        session = import_module(settings.SESSION_ENGINE).SessionStore()
        session[SESSION_KEY] = str(user.pk)
        session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        session.save()
        with httpx.Client(
            base_url="http://test.host",
            transport=httpx.HTTPTransport(uds=str(socket)),
            cookies={"sessionid": session.session_key},
            timeout=30,
        ) as browser:
            yield browser

    wait_until(socket.exists)
    try:
        yield open_as
    finally:
        process.terminate()
        process.wait(30)
        dismiss(guard)


def submit(browser, exercise, code):
    """Send the code with the form of the page; the address of the submission."""
    page = browser.get(exercise.get_absolute_url())
    token = page.text.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
    sent = browser.post(exercise.get_absolute_url(), data={"code": code, "csrfmiddlewaretoken": token})
    assert sent.status_code == 302, sent.text
    return sent.headers["Location"]


def follow(browser, address):
    """Ask as htmx does, until the part asks for no more."""
    while "hx-get" in (part := browser.get(address, headers={"HX-Request": "true"}).text):
        time.sleep(POLL)
    return part


@pytest.mark.slow
def test_100_submissions_at_once_are_all_checked_and_pages_go_on(site, worker_process, exercise):
    worker_process("critical", "default")
    learners = [User.objects.create_user(f"learner{n}@example.org") for n in range(LEARNERS)]
    took, done = [], threading.Event()

    def learn(number):
        browser, codes = browsers[number], [RIGHT if (number + n) % 2 else WRONG for n in range(EACH)]
        addresses = [submit(browser, exercise, code) for code in codes]
        return [(code, follow(browser, address)) for code, address in zip(codes, addresses, strict=True)]

    def look():
        while not done.is_set():
            began = time.monotonic()
            assert browsers[-1].get(reverse("exercises")).status_code == 200
            took.append(time.monotonic() - began)
            done.wait(LOOK)

    with ExitStack() as open_ones, ThreadPoolExecutor(LEARNERS + 1) as threads:
        browsers = [open_ones.enter_context(site(learner)) for learner in [*learners, learners[0]]]
        began = time.monotonic()
        looking = threads.submit(look)
        try:
            ended = [each for result in threads.map(learn, range(LEARNERS)) for each in result]
        finally:
            done.set()
        looking.result()
    seconds = time.monotonic() - began

    assert len(ended) == LEARNERS * EACH == Submission.objects.count()
    for code, part in ended:
        assert ("Passed. Well done!" if code == RIGHT else "returned 3; it should return") in part
    states = Submission.objects.values_list("files__content", "state")
    assert all(state == ("passed" if code == RIGHT else "failed") for code, state in states)
    jobs = [inspection.find(id) for id in Submission.objects.values_list("job_id", flat=True)]
    assert [job.state for job in jobs] == ["finished"] * len(jobs)

    for job in jobs:
        job.refresh()
    waited = [(job.started_at - job.enqueued_at).total_seconds() for job in jobs]
    ran = [(job.ended_at - job.started_at).total_seconds() for job in jobs]
    print(f"\n{len(jobs)} submissions in {seconds:.1f} s")
    for name, values in (("critical latency", waited), ("checks", ran), ("a page meanwhile", took)):
        print(
            f"{name}: p50 {median(values):.3f} s, p95 {quantiles(values, n=20)[-1]:.3f} s, at most {max(values):.3f} s"
        )


def test_a_worker_that_is_killed_while_it_checks_leaves_no_process_and_the_check_is_made_again(
    site, worker_process, exercise
):
    worker = worker_process("critical")
    learner = User.objects.create_user("ada@example.org")
    with site(learner) as browser:
        address = submit(browser, exercise, f"import time\ntime.sleep(4)\n{RIGHT}")
        child = wait_for(lambda: [p for p in psutil.Process(worker.pid).children() if len(p.children()) >= 2])[0]
        programs = child.children()
        assert "It is being checked." in browser.get(address).text

        child.kill()

        wait_until(lambda: not any(p.is_running() and p.status() != "zombie" for p in programs))
        assert "Passed. Well done!" in follow(browser, address)
    assert Submission.objects.get().results.count() == 2


def wait_for(look):
    found = []
    wait_until(lambda: found.extend(look()) or found)
    return found


def test_code_that_would_harm_the_worker_does_not_and_the_next_is_checked(site, worker_process, exercise):
    worker_process("critical")
    learner = User.objects.create_user("ada@example.org")
    harmful = {
        "import os\nwhile True: os.fork()": "not permitted",
        "import os\nos.kill(os.getppid(), 9)": "not permitted",
        "x = 'x' * 1_000_000_000": "more than 256 MB were needed",
        "def add(a, b):\n    while True: print('x' * 1000)": "perhaps a loop that never ends|took longer than 10 s",
        "import os, shutil\nshutil.rmtree('/')": "PermissionError",
        "def add(a, b:": "Syntax error in solution.py, line 1",
    }
    with site(learner) as browser:
        addresses = {code: submit(browser, exercise, code) for code in [*harmful, RIGHT]}
        for code, message in harmful.items():
            assert re.search(message, follow(browser, addresses[code])), code
        assert "Passed. Well done!" in follow(browser, addresses[RIGHT])
    assert SubmissionFile.objects.count() == len(harmful) + 1
