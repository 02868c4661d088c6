"""The bounds of every request: its text is UTF-8, its body is small, and files are dropped."""

from io import BytesIO

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import AsyncRequestFactory, Client, RequestFactory

from config.requests import MOST_BYTES, AsyncWebRequest, WebRequest
from jiki.models import Exercise, SubmissionFile
from tests.jiki.conftest import CHECKS
from users.models import User

pytestmark = pytest.mark.django_db

DOORS = ["/login/", "/signup/", "/password-reset/", "/admin/login/", "/exercises/adding/"]
CHARSETS = ["punycode", "idna", "utf-16", "utf-7", "hex", "no-such", "utf-8"]


@pytest.fixture(autouse=True)
def exercise(django_user_model):

    return Exercise.objects.create(slug="adding", title="Adding", text="Add two things.", checks=CHECKS)


def multipart(charset, value):
    body = f'--b\r\nContent-Disposition: form-data; name="code"\r\n\r\n{value}\r\n--b--\r\n'.encode()
    return body, f"multipart/form-data; boundary=b; charset={charset}"


@pytest.mark.parametrize("charset", CHARSETS)
@pytest.mark.parametrize("path", DOORS)
def test_the_charset_of_a_request_is_ignored(path, charset, client):
    client.raise_request_exception = False
    body, content_type = multipart(charset, "xn--ü\x80")
    sent = client.generic("POST", path, body, content_type=content_type)
    form = client.generic("POST", path, b"a=%FF", content_type=f"application/x-www-form-urlencoded; charset={charset}")
    read = client.generic("GET", f"{path}?next=%FF", content_type=f"text/plain; charset={charset}")

    assert {sent.status_code, form.status_code, read.status_code} <= {200, 302}


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
@pytest.mark.parametrize("charset", CHARSETS)
def test_a_parameter_of_the_content_type_may_name_any_charset(kind, charset):
    content_type = f"multipart/form-data; boundary*={charset}''%ff%ff"
    if kind == "wsgi":
        request = WebRequest(RequestFactory()._base_environ(CONTENT_TYPE=content_type, REQUEST_METHOD="POST"))
    else:
        scope = AsyncRequestFactory()._base_scope(method="POST", path="/")
        scope["headers"] = [(b"content-type", content_type.encode())]
        request = AsyncWebRequest(scope, BytesIO())

    assert request.content_type in ("", "multipart/form-data")
    if charset == "no-such":
        assert not request.POST


def test_two_megabytes_of_punycode_are_read_as_utf_8(client):
    client.force_login(User.objects.create_user("ada@example.org"))
    body, content_type = multipart("punycode", "é" * 40_000)
    page = client.generic("POST", "/exercises/adding/", body, content_type=content_type)

    assert page.status_code == 302
    assert SubmissionFile.objects.get().content == "é" * 40_000


@pytest.mark.parametrize("path", DOORS)
def test_a_strangers_body_that_is_too_large_is_not_read(path, client):
    request = client._base_environ(PATH_INFO=path, REQUEST_METHOD="POST")
    request |= {"CONTENT_TYPE": "multipart/form-data; boundary=b", "CONTENT_LENGTH": str(MOST_BYTES + 1)}

    class Unread:
        def read(self, *args):
            raise AssertionError("The body was read.")

        readline = read

    page = client.request(**request | {"wsgi.input": Unread()})

    if path.startswith("/exercises"):
        assert (page.status_code, page.url) == (302, f"/login?next={path}")
    else:
        assert page.status_code == 413
        assert "That is too large" in page.content.decode()


@pytest.mark.parametrize("path", [*DOORS[:4], "/admin/users/user/add/"])
def test_files_are_dropped_everywhere_else(path, admin_client, client, monkeypatch):
    made = []
    monkeypatch.setattr("tempfile.NamedTemporaryFile", lambda *args, **kwargs: made.append(args))
    browser = admin_client if path.endswith("add/") else client
    page = browser.post(path, {"file": SimpleUploadedFile("a.bin", b"x" * 2_600_000), "email": "x"})

    assert page.status_code == 200
    assert not page.wsgi_request.FILES
    assert page.wsgi_request.POST["email"] == "x"
    assert made == []


def test_a_file_does_not_hide_the_token_of_the_form():
    browser = Client(enforce_csrf_checks=True)
    token = browser.get("/login/").context["csrf_token"]
    fields = {"a": SimpleUploadedFile("a.bin", b"x"), "csrfmiddlewaretoken": str(token), "username": "x"}

    assert browser.post("/login/", fields).status_code == 200


def test_a_length_that_is_no_number_is_none():
    from config.requests import length

    assert length(RequestFactory().post("/", CONTENT_LENGTH="x")) == 0
