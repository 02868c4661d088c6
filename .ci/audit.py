"""
Looks for known holes in what the locks name, with pip-audit: `make audit`.

Where its service cannot be reached, or knows nothing of the packages (a mirror has the files alone), that is said and
is no failure: a machine without a network must be able to run `make lint`.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LOCKS = ("requirements.txt", "requirements-dev.txt")
UNREACHABLE = "The vulnerability service is not reachable from here, or does not know the packages: skipped."


def main() -> int:
    packages = sorted({line for lock in LOCKS for line in pinned(Path(lock).read_text())})
    if not (first := audit(packages[:1])) or not audited(first):  # one question before all of them
        print(UNREACHABLE)
        return 0
    code, told = verdict(audit(packages))
    print(told)
    return code


def pinned(lock: str) -> list[str]:
    """The packages of a lock with their versions and markers, without their hashes."""
    return re.findall(r"^([\w.-]+==[^\s\\]+(?: ; [^\\\n]+)?)", lock, re.MULTILINE)


def audit(packages: Iterable[str]) -> list[dict[str, Any]]:
    """What pip-audit found of each; nothing when it could not ask."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
        listed.write("\n".join(packages))
        listed.flush()
        options = ("--disable-pip", "--no-deps", "--progress-spinner", "off", "--format", "json", "--timeout", "10")
        done = subprocess.run(
            [sys.executable, "-m", "pip_audit", *options, "-r", listed.name], capture_output=True, text=True
        )
    try:
        return list(json.loads(done.stdout)["dependencies"])
    except ValueError:  # it has printed an error instead
        return []


def audited(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in found if "skip_reason" not in each]


def verdict(found: list[dict[str, Any]]) -> tuple[int, str]:
    """The exit code, and what to say."""
    known = audited(found)
    if not known:
        return 0, UNREACHABLE
    holes = [
        f"{each['name']} {each['version']}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'no release'}"
        for each in known
        for hole in each["vulns"]
    ]
    skipped = [f"not audited: {each['name']}" for each in found if "skip_reason" in each]
    counted = f"{len(known)} packages audited, {len(holes)} known holes."
    return (1 if holes else 0), "\n".join([*holes, *skipped, counted])


if __name__ == "__main__":
    sys.exit(main())
