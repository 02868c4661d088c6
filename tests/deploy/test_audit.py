"""`make audit`: what it makes of what pip-audit tells."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci/audit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOUND = {"name": "a", "version": "1.0", "vulns": []}
HOLED = {"name": "b", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
SKIPPED = {"name": "c", "skip_reason": "Dependency not found on PyPI and could not be audited: c (1.0)"}


def test_a_known_hole_fails_and_says_what_mends_it(audit):
    code, told = audit.verdict([SOUND, HOLED])

    assert code == 1
    assert "b 2.0: PYSEC-1, mended in 2.1" in told
    assert told.endswith("2 packages audited, 1 known holes.")


def test_without_holes_it_passes_and_names_what_it_could_not_audit(audit):
    assert audit.verdict([SOUND, SKIPPED]) == (0, "not audited: c\n1 packages audited, 0 known holes.")


@pytest.mark.parametrize("found", [[], [SKIPPED]])
def test_a_service_that_knows_nothing_is_said_and_is_no_failure(audit, found):
    assert audit.verdict(found) == (0, audit.UNREACHABLE)


def test_every_package_of_the_locks_is_asked_about(audit):
    for lock in audit.LOCKS:
        text = (ROOT / lock).read_text()
        assert len(audit.pinned(text)) == len(re.findall(r"^\S+==", text, re.MULTILINE)) > 10
    assert audit.pinned("django==5.2.1 ; python_full_version < '3.12' \\\n    --hash=sha256:00\n") == [
        "django==5.2.1 ; python_full_version < '3.12' "
    ]
