"""gunicorn as the Dockerfile starts it: clients that stall do not hold its threads, and it answers oddities."""

import socket
import subprocess
import sys
from contextlib import closing

import httpx
import pytest

from jobs.broker.embedded import dismiss, stop_with_us
from tests.processes import ROOT, child_environment, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

# The project's own file, but with less patience.
CONFIGURATION = """
import config.gunicorn_worker as own
own.ARRIVAL = 1
exec(open("gunicorn.conf.py").read())
"""
POST = b"POST /login/ HTTP/1.1\r\nHost: test.host\r\nContent-Type: application/x-www-form-urlencoded\r\n"
COOKIE = f"Cookie: csrftoken={'x' * 32}\r\n".encode()  # without one the form is refused before it is read


@pytest.fixture
def web(transactional_db, valkey, tmp_path):
    """The path of the server's socket."""
    path, log = tmp_path / "web.sock", tmp_path / "web.log"
    (tmp_path / "conf.py").write_text(CONFIGURATION)
    command = [sys.executable, "-m", "gunicorn", "config.wsgi:application", "--bind", f"unix:{path}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--config", str(tmp_path / "conf.py"), "--no-control-socket"],
            cwd=ROOT,
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    guard = stop_with_us(process.pid)
    wait_until(path.exists)
    try:
        yield path
    finally:
        process.terminate()
        process.wait(40)
        dismiss(guard)


def connected(path, *sent):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(str(path))
    for each in sent:
        client.sendall(each)
    return client


def browser(path):
    return httpx.Client(base_url="http://test.host", transport=httpx.HTTPTransport(uds=str(path)), timeout=30)


@pytest.mark.parametrize(
    "begun",
    [
        (POST[:40],),
        (POST + COOKIE + b"Content-Length: 1000\r\n\r\n", b"username=x"),
    ],
    ids=["header", "body"],
)
def test_clients_that_stall_do_not_stop_a_process(begun, web):
    stalled = [connected(web, *begun) for _ in range(8)]
    try:
        with browser(web) as visitor:
            assert visitor.get("/healthz").status_code == 200
    finally:
        for each in stalled:
            each.close()


def test_a_body_that_is_too_large_is_refused_before_it_has_arrived(web):
    with closing(connected(web, POST + b"Content-Length: 250000000\r\n\r\n", b"x" * 100_000)) as client:
        assert client.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_kept_alive_connection_goes_on(web):
    with browser(web) as visitor:
        for _ in range(3):
            assert visitor.get("/login/").status_code == 200
            assert visitor.post("/login/", data={"username": "x"}).status_code == 403


def test_a_content_type_that_cannot_be_parsed_is_answered(web):
    with browser(web) as visitor:
        for odd in ("boundary*=no-such''b", "boundary*=idna''%ff", "a*=punycode''%ff"):
            headers = {"Content-Type": f"multipart/form-data; {odd}"}
            assert visitor.post("/login/", content=b"--b--", headers=headers).status_code == 403
