"""The workflows, the issue forms and the hooks of commits: valid, complete, and of things that exist."""

import re
import subprocess
import sys
import tomllib

import pytest
from ruamel.yaml import YAML

from tests.processes import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted(GITHUB.glob("workflows/*.yml"))
FORMS = [GITHUB / "ISSUE_TEMPLATE/bug.yml", GITHUB / "ISSUE_TEMPLATE/idea.yml"]
MAKEFILE = (ROOT / "Makefile").read_text()


def read(path):
    return YAML(typ="safe").load(path)


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("vendor.github-issue-forms", FORMS),
        ("vendor.github-issue-config", [GITHUB / "ISSUE_TEMPLATE/config.yml"]),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_its_schema_accepts(schema, files):
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *files]
    done = subprocess.run(check, capture_output=True, text=True)

    assert files
    assert done.returncode == 0, done.stdout


def test_every_supported_python_django_and_database_is_in_the_matrix():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    matrix = read(GITHUB / "workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    supported = {
        name: re.findall(rf"^{name} :: (\d+\.\d+)$", "\n".join(project["classifiers"]), re.MULTILINE)
        for name in ("Framework :: Django", "Programming Language :: Python")
    }

    assert matrix["django"] == supported["Framework :: Django"]
    assert matrix["python"] == supported["Programming Language :: Python"]
    databases = {*matrix["database"], *(each["database"] for each in matrix["include"])}
    assert databases == set(re.findall(r"\$\(MAKE\) test DB=(\w+)", MAKEFILE))


@pytest.mark.parametrize("path", [*WORKFLOWS, ROOT / ".pre-commit-config.yaml"], ids=lambda path: path.name)
def test_the_make_targets_exist(path):
    called = re.findall(r"(?:run|entry): make (\w+)", path.read_text())

    assert set(called) <= set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))


def test_no_job_of_a_workflow_may_write_but_the_one_that_publishes():
    writing = {}
    for path in WORKFLOWS:
        workflow = read(path)
        assert workflow["permissions"] == {"contents": "read"}
        for name, job in workflow["jobs"].items():
            if "permissions" in job:
                writing[name] = {scope for scope, right in job["permissions"].items() if right == "write"}

    assert writing == {"publish": {"attestations", "id-token"}}
    assert "secrets." not in "".join(path.read_text() for path in WORKFLOWS)


def test_a_report_of_a_bug_needs_what_the_doctor_says():
    (doctor,) = [part for part in read(FORMS[0])["body"] if part.get("id") == "doctor"]

    assert doctor["validations"]["required"]
    assert "manage.py jobs_doctor --json" in doctor["attributes"]["label"]


def test_the_hooks_of_a_commit_are_tools_of_the_lock():
    (local,) = [each for each in read(ROOT / ".pre-commit-config.yaml")["repos"] if each["repo"] == "local"]
    lock = (ROOT / "requirements-dev.txt").read_text()

    for tool in re.findall(r"\.venv/bin/([\w-]+)", "\n".join(hook["entry"] for hook in local["hooks"])):
        assert re.search(rf"^{tool}==", lock, re.MULTILINE), tool
