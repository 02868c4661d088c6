"""The pages keep up with the code: what is there is documented, what is documented is true, and examples run."""

import argparse
import ast
import importlib
import inspect
import re
import sys
import tomllib
import types
from pathlib import Path

import pytest

from jobs import checks, conf, errors, options, registry, testing
from jobs.management.commands.jobs import Command as JobsCommand
from jobs.management.commands.jobs_doctor import Command as DoctorCommand
from jobs.management.commands.rqworker import Command

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
REFERENCE = (ROOT / "docs/reference.md").read_text()
BLOCK = re.compile(r"(<!-- not run: .+? -->\n)?```(\w+)\n(.*?)```", re.DOTALL)


def section(title):
    """The text of one section of the reference, down to the next of its level."""
    return REFERENCE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def documented(text):
    """The names in the first column of a section's tables."""
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_every_environment_setting_is_in_the_reference():
    read = set(re.findall(r'env\.\w+\(\s*"(\w+)"', (ROOT / "config/settings.py").read_text()))

    assert len(read) > 8
    assert documented(section("Environment")) == read


def test_every_setting_of_the_package_is_in_the_reference():
    assert documented(section("JOBS")) == conf.DEFAULTS.keys()


def test_every_class_option_is_in_the_reference_with_its_default():
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \|", section("Class options"), re.MULTILINE)

    assert {name: ast.literal_eval(default) for name, default in rows} == options.DEFAULTS
    assert all(f"`{name}`" in section("Class options") for name in options.RESERVED)


@pytest.mark.parametrize(("command", "name"), [(Command, "rqworker"), (DoctorCommand, "jobs_doctor")])
def test_every_option_is_in_the_reference(command, name):
    parser = command().create_parser("manage.py", name)
    ours = {option for action in parser._actions for option in action.option_strings if option.startswith("--")}
    django = {"--help", "--version", "--verbosity", "--settings", "--pythonpath", "--traceback"}
    django |= {"--no-color", "--force-color", "--skip-checks"}

    assert documented(section(name)) == ours - django


def test_every_part_of_the_jobs_command_is_in_the_reference():
    parser = JobsCommand().create_parser("manage.py", "jobs")
    (every,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    options = {
        option
        for part in every.choices.values()
        for action in part._actions
        for option in action.option_strings
        if option.startswith("--")
    }

    assert documented(section("jobs")) == {*every.choices, *options} - {"--help"}


def test_every_check_is_in_the_reference():
    modules = Path(checks.__file__).parent.rglob("*.py")
    found = {check for module in modules for check in re.findall(r'id="(jobs\.E\d+)"', module.read_text())}

    assert documented(section("Checks")) == found


def test_every_error_is_in_the_reference():
    found = {
        name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == "jobs.errors"
    }

    assert documented(section("Errors")) == found - {"JobsError"}


def test_all_of_the_testing_kit_is_in_the_reference_with_its_options():
    # The page of its own is where the section stands until it is in the reference.
    text = section("Testing")
    methods = dict(inspect.getmembers(testing.Kit, inspect.isfunction)) | {
        "run_worker": testing.run_worker,
        "assert_idempotent": testing.assert_idempotent,
    }
    ours = {name for name in methods if not name.startswith("_")} | {"enqueued_jobs", "performed_jobs"}
    fields = {name for name, _ in inspect.getmembers(testing.Recorded, lambda member: isinstance(member, property))}

    assert {re.match(r"\w+", name)[0] for name in documented(text)} >= ours | {*testing.__all__} - {"Recorded"}
    assert {*fields, "job", "name", "queue", "at"} <= set(re.findall(r"`(\w+)`", text))
    for name, options_ in re.findall(r"^\| `(\w+)\(([\w, ]*)\)`", text, re.MULTILINE):
        taken = [option for option in inspect.signature(methods[name]).parameters if option != "self"]
        assert re.findall(r"\w+", options_) == taken, name


def test_every_time_in_the_reference_is_the_codes():
    rows = re.findall(
        r"^\| [^|]+ \| ([\d.]+)[^|]* \| `(\w+)` in `([\w/]+)\.py` \|", section("Times and bounds"), re.MULTILINE
    )

    assert len(rows) > 10
    for value, name, path in rows:
        assert getattr(importlib.import_module(path.replace("/", ".")), name) == float(value), name


def test_every_dependency_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    reasons = re.findall(r"^\| `([\w-]+)` \| \S", (ROOT / "docs/decisions.md").read_text(), re.MULTILINE)

    assert sorted(reasons) == sorted(re.match(r"[\w-]+", line)[0] for line in wanted)


def test_every_make_target_is_documented():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):.*## ", makefile, re.MULTILINE))
    text = (ROOT / "CONTRIBUTING.md").read_text()

    assert {"demo", "test", "run", "lint"} <= targets
    assert set(re.findall(r"^\| `make ([a-z-]+)` \|", text, re.MULTILINE)) == targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([\w-]+))?\)", page.read_text()):
        linked = (page.parent / target) if target else page
        assert linked.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_examples_exist(page):
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    known = {path.stem for path in ROOT.glob("*/management/commands/*.py")} | {"shell", "migrate", "check"}
    for _, language, text in BLOCK.findall(page.read_text()):
        if language == "sh":
            assert set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)) <= targets
            assert set(re.findall(r"manage\.py (\w+)", text)) <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_that_a_test_has_are_as_it_has_them(page):
    for reason, _, text in BLOCK.findall(page.read_text()):
        if found := re.search(r"it is in (tests/\S+\.py)", reason):
            source = (ROOT / found[1]).read_text()
            for part in text.strip().split("\n\n\n"):
                assert part in source, part


def test_every_test_that_the_semantics_name_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", (ROOT / "docs/semantics.md").read_text())

    assert len(named) > 50
    for path, name in named:
        assert f"\ndef {name}(" in (ROOT / path).read_text(), f"{path}::{name}"


@pytest.fixture
def page_module():
    """A module of an installed app, in which a page's examples run: the commands they define can be deferred."""
    module = types.ModuleType("tests.sample.commands.page")
    sys.modules[module.__name__] = module
    known, conflicts = dict(registry.all_commands()), len(registry.conflicts())
    yield module
    del sys.modules[module.__name__]
    registry._settle()
    registry._commands.clear()
    registry._commands.update(known)
    del registry._conflicts[conflicts:]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_run(page, page_module, django_user_model):
    django_user_model.objects.create_user("learner@jiki.example", "x" * 12)

    for reason, language, text in BLOCK.findall(page.read_text()):
        if language == "python" and not reason:
            exec(compile(text, str(page), "exec"), vars(page_module))  # noqa: S102
