"""The pages follow the code: all of it is documented, the documentation is true, and the examples run."""

import argparse
import ast
import importlib
import inspect
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
import types
from pathlib import Path

import pytest
from django.core.management import CommandError, get_commands, load_command_class
from ruamel.yaml import YAML

from jobs import checks, conf, errors, testing
from jobs.broker import keys
from jobs.client import options
from jobs.management.commands.jobs import Command as JobsCommand
from jobs.management.commands.jobs_doctor import Command as DoctorCommand
from jobs.management.commands.rqworker import Command
from tests.jobs.worker.servers import Server

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
REFERENCE = (ROOT / "docs/reference.md").read_text()
BLOCK = re.compile(r"(<!-- not run: [^>]+? -->\n)?( *)```(\w+)\n(.*?)\n *```", re.DOTALL)


def blocks(page, *languages):
    """The code blocks of a page in these languages: (why it is not run, or "", its language, its text)."""
    found = [(reason, language, textwrap.dedent(text)) for reason, _, language, text in BLOCK.findall(page.read_text())]
    return [block for block in found if not languages or block[1] in languages]


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
    found = {check for module in modules for check in re.findall(r'id="(jobs\.[EW]\d+)"', module.read_text())}

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


def test_every_key_in_redis_is_in_the_reference():
    values = [value for name, value in vars(keys).items() if name.isupper() and ":" in value]
    no_keys = (keys.name_of, keys.type_of, keys.shared)
    builders = [value for value in vars(keys).values() if inspect.isfunction(value) and value not in no_keys]
    built = [builder(*["<>"] * len(inspect.signature(builder).parameters)) for builder in builders]
    text = re.sub(r"<\w+>", "<>", section("Keys in Redis"))
    registries = ("rq:wip:<>", "rq:scheduled:<>", "rq:deferred:<>", "rq:finished:<>", "rq:failed:<>", "rq:canceled:<>")
    wanted = {*values, *built, *registries} - {keys.RQ, keys.registry("<>", "<>"), keys.lease("<>"), keys.profile("<>")}

    assert len(wanted) > 30
    assert wanted <= documented(text)


def test_every_room_is_in_the_internals_on_its_floor():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract.get("containers") == ["jobs"]]
    floors = [set(layer.split(" | ")) for layer in layers]
    text = (ROOT / "docs/internals.md").read_text().partition("| floor | room |")[2]
    rows = re.findall(r"^\| (\d*) ?\| `([\w/]+?)(?:/|\.py)` \|", text, re.MULTILINE)
    named = []
    for number, room in rows:
        if number:
            assert int(number) == len(floors) - len(named)
            named.append(set())
        named[-1].add(room.replace("/", "."))

    assert named == floors


def test_every_dependency_has_its_reason():
    read = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = [*read["project"]["optional-dependencies"].values(), *read["dependency-groups"].values()]
    wanted = sum(lists, [*read["project"]["dependencies"], *read["build-system"]["requires"]])
    reasons = re.findall(r"^\| `([\w-]+)` \| \S", (ROOT / "docs/decisions.md").read_text(), re.MULTILINE)

    assert sorted(reasons) == sorted({re.match(r"[\w-]+", line)[0] for line in wanted} - {"django-mandate"})


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


def test_the_figures_of_the_readme_are_those_of_the_benchmarks():
    figures = (ROOT / "README.md").read_text().partition("\n## Figures\n")[2].partition("\n## ")[0]
    claims = re.findall(r"([\d.,]+\d) (?:no-op jobs a second|calls of|jobs a second|times [A-Zd]\w+|ms)", figures)
    measured = (ROOT / "docs/benchmarks.md").read_text()

    assert len(claims) > 8
    for claim in claims:
        assert re.search(rf"(?<![\d.,]){re.escape(claim)}(?![\d.,]\d)", measured), claim


@pytest.mark.parametrize("page", ["README.md", "docs/howto/use-the-dashboard.md"])
def test_each_link_of_the_comparison_is_defined_and_used(page):
    text = (ROOT / page).read_text()
    used = set(re.findall(r"\]\[([\w-]+)\]", text))

    assert used
    assert set(re.findall(r"^\[([\w-]+)\]: https://\S+$", text, re.MULTILINE)) == used


def test_the_dashboards_are_compared_by_tests_that_exist():
    text = (ROOT / "docs/howto/use-the-dashboard.md").read_text().partition("\n## Compared with other dashboards\n")[2]
    tests = set(re.findall(r"\| `(test_\w+\.py)` \|$", text, re.MULTILINE))

    assert len(tests) > 8
    assert tests <= {path.name for path in (ROOT / "tests").rglob("test_*.py")}


@pytest.mark.parametrize("index", ["README.md", "docs/README.md"])
def test_every_page_is_found_from_the_first_one(index):
    linked = {
        (ROOT / index).parent / target for target in re.findall(r"\]\(([\w/.-]+\.md)", (ROOT / index).read_text())
    }

    assert {page.resolve() for page in linked} >= {*(ROOT / "docs").glob("*/*.md")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_block_of_code_goes_unchecked(page):
    assert {language for _, language, _ in blocks(page)} <= {"python", "sh", "yaml", "conf"}
    assert page.read_text().count("```") % 2 == 0


def lines_of(script):
    """The commands of a shell script, each as its words."""
    for line in script.replace("\\\n", " ").splitlines():
        for command in re.split(r"&&|;", line):
            if words := shlex.split(command, comments=True):
                yield words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_examples_exist_and_take_their_options(page):
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    variables = {*re.findall(r"\$\((?:if |or )?(?:\$\()?([A-Z]+)", makefile), "RUBYLIB"}  # that is Ruby's own
    known = get_commands()
    for _, _, text in blocks(page, "sh"):
        subprocess.run(["/bin/bash", "-n", "-c", text], check=True)
        for words in lines_of(text):
            if "make" in words:
                target, *given = words[words.index("make") + 1 :]
                assert target in targets
                assert {word.partition("=")[0] for word in given} <= variables, words
            if manage := next((word for word in words if word.endswith("manage.py")), None):
                name, *options_ = words[words.index(manage) + 1 :]
                command = load_command_class(known[name], name)
                command.create_parser("manage.py", name).parse_args(options_)


def test_an_option_that_a_command_does_not_have_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```sh\nmake run\npython manage.py rqworker low --no-such-option\n```\n")

    with pytest.raises(CommandError, match="no-such-option"):
        test_commands_in_examples_exist_and_take_their_options(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_configuration_in_examples_can_be_read(page, tmp_path):
    for _, _, text in blocks(page, "yaml"):
        assert list(YAML(typ="safe").load_all(text))
    for number, (_, _, text) in enumerate(blocks(page, "conf")):  # Redis's own
        with Server(tmp_path / str(number), *text.splitlines()) as server, server.client() as client:
            for line in text.splitlines():
                name, _, value = line.partition(" ")
                if name != "user":
                    assert list(client.config_get(name).values()) == [value], line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_that_a_test_has_are_as_it_has_them(page):
    for reason, _, text in blocks(page):
        if found := re.search(r"it is in (tests/\S+\.py)", reason):
            source = (ROOT / found[1]).read_text()
            for part in text.strip().split("\n\n\n"):
                assert part in source, part


@pytest.mark.parametrize(("page", "at_least"), [("semantics", 50), ("security", 25)])
def test_every_test_that_a_page_names_exists(page, at_least):
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", (ROOT / f"docs/{page}.md").read_text())

    assert len(named) > at_least
    for path, name in named:
        assert f"\ndef {name}(" in (ROOT / path).read_text(), f"{path}::{name}"


@pytest.fixture
def page_module(own_commands):
    """A module of an installed app, in which a page's examples run: the commands they define can be deferred."""
    module = types.ModuleType("tests.sample.commands.page")
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_run(page, page_module, django_user_model, monkeypatch):
    django_user_model.objects.create_user("learner@jiki.example", "x" * 12)
    for path in re.findall(r"Put this in\s`([\w/]+)\.py`", page.read_text()):  # a later block may import it
        monkeypatch.setitem(sys.modules, path.replace("/", "."), page_module)

    for reason, _, text in blocks(page, "python"):
        code = compile(text, str(page), "exec")
        if not reason:
            exec(code, vars(page_module))  # noqa: S102


def test_llms_txt_lists_every_page():
    linked = set(re.findall(r"\]\(([^)]+)\)", (ROOT / "llms.txt").read_text()))

    assert {ROOT / target for target in linked} >= {*(ROOT / "docs").glob("**/*.md")} - {ROOT / "docs/README.md"}
    assert all((ROOT / target).exists() for target in linked)
