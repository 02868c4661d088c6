"""What the environment decides. The settings module is run afresh for each case."""

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from config import queues
from jobs.broker import embedded

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = [
    "API_TOKENS",
    "ALLOWED_HOSTS",
    "BEHIND_PROXY",
    "DATABASE_URL",
    "DEBUG",
    "DEFAULT_FROM_EMAIL",
    "EMAIL_URL",
    "EXERCISES_API_TOKEN",
    "EXERCISES_API_URL",
    "LOG_LEVEL",
    "REDIS_URL",
    "REDIS_URLS",
    "SECRET_KEY",
    "SITE_URL",
    "SUBMISSION_SANDBOX",
    "VERSION",
]

Load = Callable[..., dict[str, Any]]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """The settings with these variables in the environment, and none of the others that they read."""

    def load(**environment: str) -> dict[str, Any]:
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return runpy.run_path(str(ROOT / "config" / "settings.py"))

    return load


def test_every_variable_that_the_settings_read_is_varied_here() -> None:
    source = (ROOT / "config" / "settings.py").read_text()

    assert [name for name in NAMES if f'"{name}"' not in source] == []


def test_queues_may_lie_on_servers_of_their_own(load: Load) -> None:
    urls = "critical=redis://first/0?ssl_ca_certs=/ca.pem,low=redis://second/0"
    found = load(SECRET_KEY="x", REDIS_URL="redis://main/0", REDIS_URLS=urls)["RQ_QUEUES"]

    assert {name: queue["URL"] for name, queue in found.items()} == {
        "critical": "redis://first/0?ssl_ca_certs=/ca.pem",
        "default": "redis://main/0",
        "mailers": "redis://main/0",
        "background": "redis://main/0",
        "low": "redis://second/0",
    }


def test_debug_is_off_by_default(load: Load) -> None:
    assert load(SECRET_KEY="x")["DEBUG"] is False


def test_a_secret_key_is_needed_in_production(load: Load) -> None:
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY"):
        load()


def test_a_secret_key_is_not_needed_for_development(load: Load) -> None:
    assert load(DEBUG="1")["SECRET_KEY"]


@pytest.mark.processes
def test_manage_py_says_that_the_secret_key_is_missing() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    environment["DJANGO_SETTINGS_MODULE"] = "config.settings"

    checked = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=ROOT, env=environment, capture_output=True, text=True
    )

    assert checked.returncode == 1
    assert checked.stderr == "SECRET_KEY is not set. For development type: DEBUG=1 python manage.py ...\n"


@pytest.mark.processes
def test_manage_py_says_that_django_is_missing() -> None:
    checked = subprocess.run([sys.executable, "-S", "manage.py", "check"], cwd=ROOT, capture_output=True, text=True)

    assert checked.returncode == 1
    assert checked.stderr == (
        "Django is not installed for this Python. Type: make setup, then DEBUG=1 .venv/bin/python manage.py ...\n"
    )


def test_redis_is_the_embedded_server_in_development_only(load: Load) -> None:
    development = load(DEBUG="1")

    assert development["REDIS_URL"] == embedded.url(development["VAR"])
    assert load(SECRET_KEY="x", DEBUG="0")["REDIS_URL"] == ""


def test_every_queue_is_on_the_one_redis_and_speaks_json(load: Load) -> None:
    configured = load(SECRET_KEY="x", REDIS_URL="redis://redis.example/3")["RQ_QUEUES"]

    assert list(configured) == list(queues.QUEUES) == ["critical", "default", "mailers", "background", "low"]
    assert {queue["URL"] for queue in configured.values()} == {"redis://redis.example/3"}
    assert {queue["SERIALIZER"] for queue in configured.values()} == {"rq.serializers.JSONSerializer"}


@pytest.mark.parametrize(
    ("environment", "site", "host"),
    [
        ({"DEBUG": "1"}, "http://localhost:8000", "localhost"),
        ({}, "https://jiki.io", "jiki.io"),
        ({"SITE_URL": "http://test.host"}, "http://test.host", "test.host"),
    ],
    ids=["development", "production", "given"],
)
def test_the_site_is_where_the_environment_says(load: Load, environment: dict[str, str], site: str, host: str) -> None:
    settings = load(SECRET_KEY="x", **environment)

    assert settings["SITE_URL"] == site
    assert host in settings["ALLOWED_HOSTS"]
    assert settings["CSRF_TRUSTED_ORIGINS"] == [site]


def test_other_hosts_can_be_allowed(load: Load) -> None:
    assert load(SECRET_KEY="x", ALLOWED_HOSTS="a.example,b.example")["ALLOWED_HOSTS"] == ["a.example", "b.example"]


def test_an_https_site_is_served_over_https_alone(load: Load) -> None:
    settings = load(SECRET_KEY="x", SITE_URL="https://jiki.example")

    assert settings["SECURE_SSL_REDIRECT"]
    assert settings["SECURE_HSTS_SECONDS"]
    assert settings["SESSION_COOKIE_SECURE"]
    assert settings["CSRF_COOKIE_SECURE"]


@pytest.mark.parametrize(
    "environment",
    [{"SITE_URL": "http://jiki.example"}, {"SITE_URL": "https://jiki.example", "DEBUG": "1"}],
    ids=["http", "development"],
)
def test_any_other_site_is_not_redirected(load: Load, environment: dict[str, str]) -> None:
    assert "SECURE_SSL_REDIRECT" not in load(SECRET_KEY="x", **environment)


def test_the_proxys_header_is_believed_only_when_asked(load: Load) -> None:
    assert "SECURE_PROXY_SSL_HEADER" not in load(SECRET_KEY="x")
    assert load(SECRET_KEY="x", BEHIND_PROXY="1")["SECURE_PROXY_SSL_HEADER"] == ("HTTP_X_FORWARDED_PROTO", "https")


def test_sqlite_waits_for_its_turn_to_write(load: Load) -> None:
    settings = load(SECRET_KEY="x")

    database = settings["DATABASES"]["default"]
    assert database["NAME"] == str(settings["VAR"] / "jiki.sqlite3")
    assert database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert database["OPTIONS"]["timeout"] >= 5
    assert "journal_mode=WAL" in database["OPTIONS"]["init_command"]


def test_another_database_gets_none_of_sqlites_options(load: Load) -> None:
    database = load(SECRET_KEY="x", DATABASE_URL="postgres://jiki:secret@db.example/jiki")["DATABASES"]["default"]

    assert database["ENGINE"] == "django.db.backends.postgresql"
    assert (database["HOST"], database["NAME"]) == ("db.example", "jiki")
    assert "init_command" not in database.get("OPTIONS", {})


def test_mail_goes_to_files_in_development(load: Load) -> None:
    settings = load(DEBUG="1")

    assert mailer(settings, "file_path") == ("filebased", str(settings["VAR"] / "mail"))


def test_mail_goes_to_a_mail_server_in_production(load: Load) -> None:
    assert mailer(load(SECRET_KEY="x"), "host") == ("smtp", "localhost")
    assert mailer(load(SECRET_KEY="x", EMAIL_URL="smtp+tls://u:p@mail.example:587"), "port") == ("smtp", 587)
    assert mailer(load(SECRET_KEY="x", EMAIL_URL="memorymail://"), "host")[0] == "locmem"


def mailer(settings: dict[str, Any], option: str) -> tuple[str, Any]:
    """The kind of backend and one of its options, as Django 6.1 and as Django 5.2 have them."""
    if "MAILERS" in settings:
        configured = settings["MAILERS"]["default"]
        backend, value = configured["BACKEND"], configured["OPTIONS"].get(option)
    else:
        backend, value = settings["EMAIL_BACKEND"], settings[f"EMAIL_{option.upper()}"]
    return backend.split(".")[-2], value


@pytest.mark.parametrize(("said", "tokens"), [(None, []), ("", []), (",", []), ("one,two,", ["one", "two"])])
def test_no_empty_text_is_a_token(load: Load, said: str | None, tokens: list[str]) -> None:
    environment = {} if said is None else {"API_TOKENS": said}

    assert load(SECRET_KEY="x", **environment)["JOBS"]["API_TOKENS"] == tokens


@pytest.mark.parametrize(
    ("environment", "level"),
    [({"DEBUG": "1"}, "INFO"), ({}, "WARNING"), ({"LOG_LEVEL": "ERROR"}, "ERROR")],
    ids=["development", "production", "given"],
)
def test_the_log_is_quieter_in_production(load: Load, environment: dict[str, str], level: str) -> None:
    assert load(SECRET_KEY="x", **environment)["LOGGING"]["root"]["level"] == level


def test_our_rqworker_wins_over_django_rqs(load: Load) -> None:
    installed = load(SECRET_KEY="x")["INSTALLED_APPS"]

    assert installed.index("jobs") < installed.index("django_rq")


def test_an_exercise_service_without_a_scheme_is_refused(load: Load) -> None:
    assert load(SECRET_KEY="x")["EXERCISES_API_URL"] == ""
    with pytest.raises(ImproperlyConfigured, match=r"EXERCISES_API_URL='content\.jiki\.io' is not a URL"):
        load(SECRET_KEY="x", EXERCISES_API_URL="content.jiki.io")


@pytest.mark.parametrize("url", ["", "https://content.jiki.io/exercises"])
def test_exercises_are_synced_where_there_is_a_service(url: str) -> None:
    program = "import django; django.setup(); from config.schedule import SCHEDULE; print([e.name for e in SCHEDULE])"
    environment = {**os.environ, "EXERCISES_API_URL": url, "DJANGO_SETTINGS_MODULE": "config.settings"}

    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)

    assert ("'sync exercises'" in ran.stdout) is bool(url), ran.stderr
    assert "'refresh statistics of submissions'" in ran.stdout


def test_strangers_code_is_confined_unless_somebody_develops(load: Load) -> None:
    production = {"SECRET_KEY": "x", "REDIS_URL": "redis://localhost"}

    assert load(**production)["SUBMISSION_SANDBOX"] == "confined"
    assert load(DEBUG="1")["SUBMISSION_SANDBOX"] == "any"
    with pytest.raises(ImproperlyConfigured, match="SUBMISSION_SANDBOX='no' is unknown. Use confined"):
        load(**production, SUBMISSION_SANDBOX="no")
