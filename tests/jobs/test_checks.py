"""`manage.py check` reports problems before a job meets them, each with a hint."""

import contextlib
import subprocess
import sys

import pytest
from django.core.management import call_command
from django.test import override_settings

from config.queues import rq_queues
from jobs import Mandate, checks
from jobs.broker import embedded
from jobs.commands.collect_metrics import CollectMetrics
from jobs.doctor import Severity, project
from jobs.record import registry
from jobs.scheduler import Entry
from tests.jobs.worker.servers import Server
from tests.processes import ROOT, child_environment
from tests.sample.commands import notes


def ids(*messages):
    assert all(message.hint for message in messages)
    return [message.id for message in messages]


@pytest.fixture
def registered(own_commands):
    """Define commands in the sample app, and remove them after the test."""

    def define(name, **options):
        return type(name, (Mandate,), {"__module__": notes.__name__, "call": lambda self: None, **options})

    return define


def test_this_project_passes():
    call_command("check")


def test_a_redis_cluster_is_refused(settings, tmp_path):
    with Server(tmp_path / "cluster", "cluster-enabled yes") as server:
        settings.RQ_QUEUES = rq_queues(server.url)

        (message,) = checks.check_redis(None)

    assert ids(message) == ["jobs.E010"]
    assert f"127.0.0.1:{server.port}/0 is a cluster" in message.msg


@pytest.mark.processes
def test_a_worker_does_not_start_on_a_redis_cluster(tmp_path, db):
    with Server(tmp_path / "cluster", "cluster-enabled yes") as server:
        worker = subprocess.run(
            [sys.executable, "manage.py", "rqworker", "--burst"],
            cwd=ROOT,
            env=child_environment(REDIS_URL=server.url),
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert worker.returncode == 1
    assert "jobs.E010" in worker.stderr


def test_a_command_on_an_unknown_queue_is_reported(registered):
    registered("Misplaced", queue="urgent")

    (message,) = checks.check_queues(None)

    assert ids(message) == ["jobs.E001"]
    assert "sample.Misplaced names the queue 'urgent'" in message.msg
    assert "critical, default, mailers, background, low" in message.hint


def test_queues_that_differ_from_rq_queues_are_reported(settings):
    settings.JOBS = {"QUEUES": {"critical": "", "default": "", "mailers": "", "background": ""}}

    assert "jobs.E002" in ids(*checks.check_queues(None))


@pytest.mark.parametrize("name", ["a,b", "a|b", "a\nb", "", "q" * 101, None, 7])
def test_a_queue_with_an_invalid_name_is_reported(name, settings):
    settings.JOBS = {"QUEUES": {**settings.JOBS["QUEUES"], name: ""}}
    settings.RQ_QUEUES = {**settings.RQ_QUEUES, name: settings.RQ_QUEUES["default"]}

    (message,) = checks.check_queues(None)

    assert ids(message) == ["jobs.E012"]
    assert repr(name) in message.msg


@pytest.mark.parametrize("host", ["https://example.com", "example.com/hook", "example.com:x", "me@example.com", ""])
def test_a_webhook_host_that_is_none_is_reported(host, settings):
    settings.JOBS = settings.JOBS | {"WEBHOOK_HOSTS": ["example.com:8443", "::1", "[::1]:80", host]}

    (message,) = checks.check_webhook_hosts(None)

    assert ids(message) == ["jobs.E013"]
    assert repr(host) in message.msg


@contextlib.contextmanager
def plain_lifespan():
    yield


@contextlib.asynccontextmanager
async def good_lifespan():
    yield


@contextlib.asynccontextmanager
async def lifespan_of(host):
    yield


async def undecorated():
    yield


async def coroutine(): ...


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("nowhere.lifespan", "cannot be imported: ModuleNotFoundError"),
        (7, "cannot be imported"),
        (f"{__name__}.nothing", "cannot be imported: ImportError"),
        (f"{__name__}.__name__", "cannot be called"),
        (f"{__name__}.Mandate", "the class has no __aenter__"),
        (f"{__name__}.undecorated", "lacks the decorator contextlib.asynccontextmanager"),
        (f"{__name__}.coroutine", "it is a coroutine function"),
        (f"{__name__}.plain_lifespan", "a plain function with `yield`"),
        (f"{__name__}.lifespan_of", "takes some"),
    ],
)
def test_a_lifespan_that_is_none_is_reported(path, problem, settings):
    settings.JOBS = settings.JOBS | {"LOOP_LIFESPAN": path}

    (message,) = checks.check_lifespan(None)

    assert ids(message) == ["jobs.E024"]
    assert f"JOBS['LOOP_LIFESPAN'] = {path!r}" in message.msg
    assert problem in message.msg


@pytest.mark.parametrize("path", [None, f"{__name__}.good_lifespan", "asyncio.Lock", "contextlib.AsyncExitStack"])
def test_a_lifespan_is_an_async_context_manager(path, settings):
    settings.JOBS = settings.JOBS | {"LOOP_LIFESPAN": path}

    assert checks.check_lifespan(None) == []


def test_two_commands_of_one_name_are_reported(registered):
    registered("Twin")
    registered("Twin", __qualname__="Other.Twin")

    (message,) = checks.check_names(None)

    assert ids(message) == ["jobs.E003"]
    assert "sample.Twin" in message.msg


def test_a_redefined_class_is_not_a_second_command(registered):
    registered("Renewed")
    again = registered("Renewed")

    assert checks.check_names(None) == []
    assert registry.get("sample.Renewed") is again


def test_django_rq_before_jobs_is_reported(settings):
    order = [app for app in settings.INSTALLED_APPS if app != "jobs"]
    with override_settings(INSTALLED_APPS=[*order, "jobs"]):
        assert ids(*checks.check_installed_order(None)) == ["jobs.E004"]
    assert checks.check_installed_order(None) == []


def test_a_missing_redis_address_is_reported(settings):
    settings.RQ_QUEUES = rq_queues("")

    (message,) = checks.check_redis(None)

    assert ids(message) == ["jobs.E005"]
    assert "REDIS_URL" in message.hint


@pytest.mark.parametrize(("version", "found"), [("4.0.14", ["jobs.E006"]), ("5.0.0", []), ("8.2.1", [])])
def test_an_old_server_is_reported(version, found, monkeypatch):
    monkeypatch.setattr("redis.Redis.info", lambda self, section: {"redis_version": version})

    assert ids(*checks.check_redis(None)) == found


def test_a_server_that_does_not_answer_is_not_reported(settings, tmp_path):
    settings.RQ_QUEUES = rq_queues(f"unix://{tmp_path}/none.sock")

    assert checks.check_redis(None) == []


@pytest.mark.parametrize("given", ["rq.job.Job", "nowhere.Job", None, 7])
def test_a_class_of_jobs_that_is_not_ours_is_reported(given, settings):
    settings.RQ = {**settings.RQ, "JOB_CLASS": given}

    (message,) = checks.check_settings(None)

    assert ids(message) == ["jobs.E014"]
    assert repr(given) in message.msg


def test_a_key_that_nothing_reads_is_reported(settings):
    settings.JOBS = {**settings.JOBS, "SCHEDUL": "x", "colour": 1}

    messages = checks.check_settings(None)

    assert ids(*messages) == ["jobs.W001", "jobs.W001"]
    assert messages[0].hint == "Give SCHEDULE."


def test_profiles_without_a_profiler_are_reported(registered, monkeypatch):
    registered("Profiled", profile_rate=0.5)
    assert checks.check_extras(None) == []

    monkeypatch.setitem(sys.modules, "pyinstrument", None)

    (message,) = [message for message in checks.check_extras(None) if message.obj.__name__ == "Profiled"]
    assert ids(message) == ["jobs.W002"]
    assert "django-mandate[profile]" in message.hint


def test_the_embedded_server_is_reported_before_a_deployment(settings, tmp_path):
    assert checks.check_development(None) == []
    settings.BASE_DIR = tmp_path
    settings.RQ_QUEUES = rq_queues(embedded.url(tmp_path / ".jobs"))

    assert ids(*checks.check_development(None)) == ["jobs.W003"]


COLLECTED = [Entry("measure", CollectMetrics, every=300), Entry("by name", "jobs.CollectMetrics", every=300)]


def test_an_entry_that_collects_what_the_workers_collect_is_reported(settings):
    settings.JOBS = {**settings.JOBS, "SCHEDULE": f"{__name__}.COLLECTED"}

    assert ids(*checks.check_schedule(None)) == ["jobs.W005", "jobs.W005"]


def test_warnings_of_the_project_are_no_errors_of_the_doctor(settings):
    settings.JOBS = {**settings.JOBS, "SCHEDUL": "x"}

    assert [finding.severity for finding in project.findings()] == [Severity.WARNING]


def test_a_package_jobs_that_ours_hides_is_named(monkeypatch, tmp_path):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/__init__.py").touch()
    assert checks.check_namesakes(None) == []

    monkeypatch.setattr("sys.path", [*sys.path, str(tmp_path)])
    (found,) = checks.check_namesakes(None)

    assert found.id == "jobs.W004"
    assert f"another package 'jobs' in {tmp_path.resolve()}" in found.msg
