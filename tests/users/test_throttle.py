import time

import pytest
from django.test import RequestFactory
from pytest_django import Settings

from tests.servers import Valkey
from users import throttle


@pytest.fixture(autouse=True)
def half_an_hour_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test runs across the end of the hour that is counted."""
    end = int(time.time()) + 1800  # once: another end is another window, in which nothing is counted yet
    monkeypatch.setattr("django_ratelimit.core._get_window", lambda value, period: end)


def waits(times: int, what: str = "signup", **meta: str) -> list[int]:
    request = RequestFactory().post("/", **meta)
    return [throttle.seconds_to_wait(request, what, "2/h") for _ in range(times)]


def test_what_is_within_the_rate_need_not_wait() -> None:
    assert waits(2) == [0, 0]


def test_what_is_over_it_waits_for_the_rest_of_the_hour() -> None:
    first, second, third = waits(3)

    assert (first, second) == (0, 0)
    assert 1790 < third <= 1800


def test_another_address_and_another_page_are_counted_apart() -> None:
    waits(3)

    assert waits(1, REMOTE_ADDR="192.0.2.7") == [0]
    assert waits(1, what="password reset") == [0]


def test_neighbours_in_one_ipv6_network_are_counted_together() -> None:
    waits(2, REMOTE_ADDR="2001:db8::1")

    assert waits(1, REMOTE_ADDR="2001:db8::2") != [0]


def test_it_is_counted_in_redis_as_in_production(settings: Settings, valkey: Valkey) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": valkey.url}}

    assert [wait > 0 for wait in waits(3)] == [False, False, True]


def test_everybody_gets_through_when_the_cache_is_down(
    settings: Settings, valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": valkey.url}}
    valkey.stop()

    assert waits(3) == [0, 0, 0]
    assert "The rate limit of signup was not checked" in caplog.text


def test_behind_a_proxy_only_what_the_proxy_added_counts(settings: Settings) -> None:
    settings.RATELIMIT_IP_META_KEY = "users.throttle.proxied_address"
    waits(2, HTTP_X_FORWARDED_FOR="203.0.113.1, 198.51.100.9")

    assert waits(1, HTTP_X_FORWARDED_FOR="203.0.113.2, 198.51.100.9") != [0]
    assert waits(1, HTTP_X_FORWARDED_FOR="203.0.113.1, 198.51.100.10") == [0]
    assert waits(1) == [0]


@pytest.mark.parametrize(
    ("written", "counted"),
    [
        ("198.51.100.9:4711", "198.51.100.9"),
        ("::ffff:198.51.100.9", "198.51.100.9"),
        ("[::ffff:198.51.100.9]:4711", "198.51.100.9"),
        ('"[2001:db8::1]:4711"', "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("unknown", "127.0.0.1"),
        ("_hidden", "127.0.0.1"),
        ("198.51.100.9,", "127.0.0.1"),
        ("", "127.0.0.1"),
    ],
)
def test_an_address_is_read_as_proxies_write_it(settings: Settings, written: str, counted: str) -> None:
    settings.RATELIMIT_IP_META_KEY = "users.throttle.proxied_address"
    request = RequestFactory().post("/", headers={"X-Forwarded-For": f"203.0.113.1, {written}"})

    assert throttle.proxied_address(request) == counted
    assert [wait > 0 for wait in waits(3, HTTP_X_FORWARDED_FOR=written)] == [False, False, True]


@pytest.mark.parametrize("address", ["", "::ffff:192.0.2.1", "/run/web.sock"])
def test_an_odd_address_of_the_connection_does_not_switch_the_limit_off(settings: Settings, address: str) -> None:
    settings.RATELIMIT_IP_META_KEY = "users.throttle.direct_address"

    assert [wait > 0 for wait in waits(3, REMOTE_ADDR=address)] == [False, False, True]
    assert waits(1, REMOTE_ADDR="::ffff:192.0.2.99") == [0]
