"""What may be said of `atomic`, where it is said."""

import pytest

from jobs import Mandate, checks
from jobs.errors import CommandDefinitionError
from jobs.record import registry
from tests.sample.commands import notes

pytestmark = pytest.mark.usefixtures("own_commands")


def define(**options):
    return type("Defined", (Mandate,), {"__module__": notes.__name__, "call": lambda self: None, **options})


@pytest.mark.parametrize("value", [1, 0, None, "", ["default", "other"], b"default"])
def test_another_value_is_refused_with_the_class(value):
    with pytest.raises(CommandDefinitionError, match="Defined: atomic = .* the alias of a database"):
        define(atomic=value)


def test_an_async_call_is_refused_with_the_reason():
    async def call(self):
        pass

    with pytest.raises(CommandDefinitionError, match="a transaction belongs to one thread"):
        define(call=call, atomic=True)
    base = define(atomic=True)
    with pytest.raises(CommandDefinitionError, match="Defined.call is a coroutine function"):
        type("Defined", (base,), {"__module__": notes.__name__, "call": call})
    assert not type("Other", (base,), {"__module__": notes.__name__, "call": call, "atomic": False}).atomic


def test_a_field_cannot_have_its_name():
    with pytest.raises(CommandDefinitionError, match="a field cannot be called 'atomic'"):
        define(__annotations__={"atomic": bool})


def test_an_alias_that_databases_does_not_have_is_found_by_a_check():
    assert checks.check_atomic(None) == []
    registry.register(define(atomic="elsewhere"))
    (message,) = checks.check_atomic(None)
    assert (message.id, message.msg) == (
        "jobs.E018",
        "sample.Defined has atomic = 'elsewhere', but DATABASES has no such alias.",
    )
    assert message.hint == "The aliases are: default, other. True stands for 'default'."
