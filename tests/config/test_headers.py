"""Headers of every page, and that no cache keeps a private one."""

import pytest
from django.http import HttpResponse
from django.test import RequestFactory
from django.urls import reverse

from config.headers import HeadersMiddleware

pytestmark = pytest.mark.django_db

PRIVATE = ["/", "/your-data/", "/exercises/", "/login/", "/signup/", "/password-reset/", "/admin/", "/no-such-page/"]


@pytest.mark.parametrize("path", PRIVATE)
def test_no_cache_stores_a_page_that_depends_on_who_asks(path, admin_client):
    stored = admin_client.get(path)["Cache-Control"]

    assert {"private", "no-store"} <= set(stored.split(", "))


@pytest.mark.parametrize("path", [*PRIVATE, "/admin/jobs/dashboard/", "/admin/jobs/dashboard/api/overview/"])
def test_other_sites_embed_nothing_and_pages_use_no_devices(path, admin_client):
    page = admin_client.get(path)

    assert page["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "camera=()" in page["Permissions-Policy"]


def test_a_page_that_is_the_same_for_everybody_may_be_stored():
    request = RequestFactory().get(reverse("home"))
    response = HeadersMiddleware(lambda request: HttpResponse(headers={"Cache-Control": "max-age=60"}))(request)

    assert response["Cache-Control"] == "max-age=60"
