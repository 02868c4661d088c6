import pytest
from pytest_django import Settings

from users.links import absolute_url


@pytest.mark.parametrize(
    ("site", "login"),
    [
        ("https://jiki.io", "https://jiki.io/login"),
        ("http://localhost:8000", "http://localhost:8000/login"),
        ("http://test.host", "http://test.host/login"),
        ("https://jiki.io/", "https://jiki.io/login"),
    ],
)
def test_a_link_leads_to_the_site_of_the_environment(settings: Settings, site: str, login: str) -> None:
    settings.SITE_URL = site

    assert absolute_url("users:login") == login


def test_a_link_may_carry_arguments() -> None:
    url = absolute_url("users:password_reset_confirm", uidb64="MQ", token="abc-def")

    assert url == "http://test.host/password-reset/MQ/abc-def/"
