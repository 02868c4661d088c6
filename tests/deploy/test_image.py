"""The image: what it is made of, and that the steps of its Dockerfile give a site and a worker."""

import re
import subprocess
import time
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from jobs.broker.embedded import dismiss, stop_with_us
from tests.deploy.image import Image, context, index_is_reachable, read
from tests.jobs.worker.servers import _free_port as free_port
from tests.processes import wait_until

WAIT = 60  # seconds until a process must answer


def test_the_image_is_slim_runs_without_rights_and_is_installed_by_hash():
    build, final = read()

    assert {build.base, final.base} == {"python:3.13-slim"}
    assert any("--require-hashes" in step for step in build.of("RUN"))
    assert final.of("COPY") == ["--from=build /venv /venv", "--from=build /app /app"]
    assert [instruction for instruction, _ in final.steps if instruction in {"USER", "CMD"}] == ["USER", "CMD"]
    (user,) = final.of("USER")
    assert int(user) > 0
    assert f"--uid {user} " in final.of("RUN")[0]


def test_the_image_knows_which_release_it_is(tmp_path):
    assert Image(tmp_path, VERSION="v7").environment()["VERSION"] == "v7"
    assert Image(tmp_path).environment()["VERSION"] == ""


def test_nothing_but_the_product_gets_into_the_image():
    taken = {path.parts[0] for path in context()}

    assert taken == {"config", "jiki", "jobs", "mailers", "users", "gunicorn.conf.py", "manage.py", "requirements.txt"}
    assert not any("__pycache__" in path.parts for path in context())


@contextmanager
def running(image, *words, log, **environment):
    """A container of the image, running while the context is open."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            words,
            cwd=image.path("/app"),
            env=image.environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    guard = stop_with_us(process.pid)
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(60) == 0, log.read_text()
        dismiss(guard)


def get(address, log):
    """What it answers, once it answers."""
    deadline = time.monotonic() + WAIT
    while True:
        try:
            with urlopen(Request(address), timeout=10) as answer:  # noqa: S310
                return answer.read().decode(), answer.headers
        except (URLError, ConnectionError) as error:
            assert time.monotonic() < deadline, f"{address}: {error}\n{log.read_text()}"
            time.sleep(0.1)


MAKE_A_JOB = """
from users.commands.send_welcome_email import SendWelcomeEmail
from users.models import User
print(SendWelcomeEmail.defer(User.objects.create_user("learner@jiki.example", "x" * 12)).id)
"""


@pytest.mark.slow
@pytest.mark.processes
def test_the_steps_of_the_dockerfile_give_a_site_and_a_worker(tmp_path, valkey):
    if not index_is_reachable(tmp_path):
        pytest.skip("pip reaches no package index from here, so nothing can be installed anew")
    image, port, health_port = Image(tmp_path / "image", VERSION="v7"), free_port(), free_port()
    image.root.mkdir()

    image.make()

    outside = {
        "SECRET_KEY": "only-for-this-test",
        "SITE_URL": f"http://127.0.0.1:{port}",
        "DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3",
        "REDIS_URL": valkey.url,
        "EMAIL_URL": f"filemail:///{tmp_path}/mail",
    }
    image.run("python", "manage.py", "migrate", "--no-input", **outside)
    job_id = image.run("python", "manage.py", "shell", "--no-imports", "-c", MAKE_A_JOB, **outside).split()[-1]
    here = f"127.0.0.1:{port}"
    web = [word.replace("0.0.0.0:8000", here) for word in image.command()]
    assert here in web
    with running(image, *web, log=tmp_path / "web.log", **outside):
        page, _ = get(f"http://{here}/", tmp_path / "web.log")
        links = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)
        assert links
        for link in links:
            _, headers = get(f"http://{here}{link}", tmp_path / "web.log")
            assert "immutable" in headers["Cache-Control"], link  # named by its content: it was collected
        image.run(*[word.replace("127.0.0.1:8000", here) for word in image.health_check()], **outside)
        with valkey.client() as client:
            wait_until(lambda: [name.endswith(b" v7") for name in client.zrange("jobs:web", 0, -1)] == [True])

    worker = ["python", "manage.py", "rqworker", "--concurrency", "2", "--health-port", str(health_port)]
    with running(image, *worker, log=tmp_path / "worker.log", **outside), valkey.client() as client:
        deadline = time.monotonic() + WAIT
        while client.hget(f"rq:job:{job_id}", "status") != b"finished":
            assert time.monotonic() < deadline, (tmp_path / "worker.log").read_text()
            time.sleep(0.1)
        asked = [word.replace(":8000", f":{health_port}") for word in image.health_check()]
        image.run(*asked, **outside)
    assert list((tmp_path / "mail").iterdir())
