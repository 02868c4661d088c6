"""No payload can call `os.system`, directly or indirectly."""

import pytest

from jobs.errors import ForbiddenFunctionError
from jobs.execution import perform
from jobs.record import allowlist, payload
from tests.sample import functions


def test_perform_is_allowed():
    assert allowlist.resolve(payload.PERFORM) is perform


def test_a_function_of_an_installed_app_is_allowed():
    assert allowlist.resolve("tests.sample.functions.add") is functions.add


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "subprocess.run",
        "builtins.eval",
        "tests.sample.functions.system",  # imported there, defined elsewhere
        "tests.sample.functions.os.system",
        "tests.sample.functions.Counter.grow",
        "tests.sample.functions.Counter",
        "tests.sample.functions.missing",
        "tests.sample.nowhere.add",
        "tests.sample.models.Note.delete",
        "tests.jobs.record.test_allowlist.outside",
        "add",
        "",
        None,
        ["os.system"],
        {"instance": 1},
    ],
)
def test_everything_else_is_refused(path):
    with pytest.raises(ForbiddenFunctionError):
        allowlist.resolve(path)


def test_nothing_is_imported_to_find_out_that_it_is_refused():
    import sys

    sys.modules.pop("this", None)
    with pytest.raises(ForbiddenFunctionError):
        allowlist.resolve("this.s")
    assert "this" not in sys.modules


def test_the_setting_allows_more(settings):
    settings.JOBS = settings.JOBS | {"ALLOWED_FUNCTIONS": ["math.sqrt"]}

    assert allowlist.resolve("math.sqrt")(9) == 3
    with pytest.raises(ForbiddenFunctionError, match="math.sin"):
        allowlist.resolve("math.sin")


def outside() -> None:
    pass
