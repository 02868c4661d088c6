"""The house's own rules: imports run downward, modules are small."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ["config", "jiki", "jobs", "mailers", "users"]
LONGEST_MODULE = 300  # lines
LONGEST_COMMAND = 40  # lines

# Each with its reason; one that has become shorter must leave the table.
LONGER_MODULES = {
    "jobs/mandate.py": "the whole public face of a command; the typed forms of `defer` alone take a fifth",
    "jobs/job.py": "the whole public face of a job: RQ's attributes, read safely, and ours",
    "jobs/broker/keys.py": "every key of ours and RQ's, once; what is not here is not in Redis",
    "jobs/record/arguments.py": "one format: how each type is written stands beside how it is read",
}
LONGER_COMMANDS: dict[str, str] = {}


def modules() -> Iterator[Path]:
    for package in PACKAGES:
        yield from (path for path in (ROOT / package).rglob("*.py") if "migrations" not in path.parts)


def commands() -> list[Path]:
    return [path for path in modules() if path.parent.name == "commands" and "management" not in path.parts]


def too_long(paths: list[Path], longest: int) -> dict[str, int]:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in paths}
    return {name: length for name, length in lengths.items() if length > longest}


def test_imports_run_downward() -> None:
    # Called as a function it would silence the loggers of all other tests.
    command = Path(sys.executable).with_name("lint-imports")

    checked = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True)

    assert checked.returncode == 0, checked.stdout


def test_modules_are_small_but_for_those_that_say_why_not() -> None:
    assert too_long(list(modules()), LONGEST_MODULE).keys() == LONGER_MODULES.keys()


def test_commands_are_smaller_still() -> None:
    assert commands()
    assert too_long(commands(), LONGEST_COMMAND).keys() == LONGER_COMMANDS.keys()
