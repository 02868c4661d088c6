"""A payload names a webhook's URL; the project's rule decides whether a request is made, and nothing else does."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from rq.webhook import Webhook

from jobs.record import webhooks

JOB = SimpleNamespace(id="j", func_name="f", enqueued_at=None, ended_at=None)


class Site:
    """A web server on 127.0.0.1 that answers each request with a redirect to `target`, if there is one."""

    def __init__(self):
        self.requests, self.target, self.code = [], None, 302
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                site.requests.append((self.command, self.path, body))
                self.send_response(site.code if site.target else 200)
                if site.target:
                    self.send_header("Location", site.target)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_POST = do_GET

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def sites():
    sites = [Site(), Site()]
    yield sites
    for each in sites:
        each.server.shutdown()
        each.server.server_close()


@pytest.fixture
def site(sites):
    for each in sites:
        each.requests, each.target, each.code = [], None, 302
    return sites[0]


@pytest.fixture
def other(sites):
    return sites[1]


@pytest.fixture
def listed(settings, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def allow(*hosts):
        settings.JOBS = settings.JOBS | {"WEBHOOK_HOSTS": list(hosts)}

    return allow


def send(url, **options):
    webhooks.send(Webhook(url, "finished", timeout=5, **options), JOB)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "target",
    [
        "http://localhost:{port}/secret",
        "http://LOCALHOST:{port}/secret",
        "http://127.0.0.1@localhost:{port}/secret",
        "http://user:127.0.0.1@127.0.0.1:{port}/secret",
        "http://127.0.0.1%40localhost:{port}/secret",
        "http://localhost:{port}\\@127.0.0.1/secret",
        "//localhost:{port}/secret",
        "http://2130706433:{port}/secret",
        "http://127.1:{port}/secret",
        "ftp://localhost:{port}/secret",
        "file:///etc/hostname",
    ],
)
def test_no_redirect_leaves_the_listed_hosts(site, other, listed, target, code, caplog):
    listed("127.0.0.1")
    site.target, site.code = target.format(port=other.port), code

    send(f"http://127.0.0.1:{site.port}/hook")

    assert len(site.requests) == 1
    assert other.requests == []
    (record,) = caplog.records
    assert "webhook to 127.0.0.1" in record.getMessage()


def test_a_redirect_among_the_listed_hosts_is_followed(site, other, listed, caplog):
    listed("127.0.0.1", f"LocalHost.:{other.port}")
    site.target = f"http://LOCALHOST:{other.port}/there"

    send(f"http://127.0.0.1:{site.port}/hook")

    assert [(request[:2]) for request in other.requests] == [("GET", "/there")], caplog.text
    assert not caplog.records


@pytest.mark.parametrize("allowed", ["127.0.0.1", "LOCALHOST", "localhost.", "localhost:{port}"])
def test_a_listed_host_is_asked_however_it_is_spelled(site, listed, allowed, caplog):
    listed(allowed.format(port=site.port))
    host = "127.0.0.1" if allowed == "127.0.0.1" else "LocalHost"

    send(f"http://{host}:{site.port}/hook?a=b", method="POST", headers={"X-Token": "t"})

    ((method, path, body),) = site.requests
    assert (method, path) == ("POST", "/hook?a=b")
    assert b'"job_id": "j"' in body
    assert not caplog.records


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:{port}/t0ken",
        "http://127.0.0.1:{port}/t0ken",
        "http://me:t0ken@localhost:{port}/",
        "http://localhost:9@127.0.0.1:{port}/t0ken",
        "http://localhost:{port}:9/t0ken",
        "http://local%68ost:{port}/t0ken",
        "http://[::1/t0ken",
        "http://localhost:x/t0ken",
        "http://localhost:9/t0ken\r\nX: y",
        "http://{long}/t0ken",
        "http://:{port}/t0ken",
    ],
)
def test_a_request_that_is_not_allowed_is_not_made(site, listed, url, caplog):
    listed("localhost:9", "[::1]:9")  # nobody listens there
    webhook = Webhook("http://x/", "finished", timeout=5)
    webhook.url = url.format(port=site.port, long="a" * 300)  # as a forged record would have it

    webhooks.send(webhook, JOB)

    assert site.requests == []
    assert "t0ken" not in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.parametrize("hosts", [(), "127.0.0.10", ("http://127.0.0.1",)])
def test_nothing_is_sent_to_a_part_of_a_setting(site, settings, hosts, caplog):
    settings.JOBS = settings.JOBS | {"WEBHOOK_HOSTS": hosts}

    send(f"http://127.0.0.1:{site.port}/hook")

    assert site.requests == []
    assert len(caplog.records) == 1


def test_an_address_of_ipv6_may_be_listed_in_any_spelling(listed):
    listed("::1", "[0:0:0:0:0:0:0:2]:80", "Bücher.example.")

    assert webhooks.hosts() == [("::1", None), ("::2", 80), ("xn--bcher-kva.example", None)]


def test_a_failure_is_logged_without_the_url(site, listed, caplog):
    listed("127.0.0.1")
    site.target, site.code = "/t0ken", 404

    send(f"http://127.0.0.1:{site.port}/t0ken")

    assert caplog.messages == ["job j: the webhook to 127.0.0.1 failed: the answer is status 404"]
