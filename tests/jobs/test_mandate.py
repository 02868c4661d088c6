"""Commands: their fields, their options, and `run`."""

import asyncio
import dataclasses
import gc
import io
from contextlib import asynccontextmanager, contextmanager
from dataclasses import KW_ONLY, field
from functools import partial, partialmethod, wraps

import pytest

from jobs import Mandate
from jobs.client import options
from jobs.errors import CommandDefinitionError
from jobs.execution import perform
from jobs.record import registry
from tests.sample.commands.notes import Fail, KeepSecret, ShoutNote, WriteNote, WriteNoteSlowly
from tests.sample.models import Note


class Add(Mandate):
    left: int
    right: int = 2
    _: KW_ONLY
    seen: list = field(default_factory=list)

    def call(self):
        self.seen.append(self.left)
        return self.left + self.right, self.seen


def test_run_takes_fields_by_position_or_name_and_returns_what_call_returns():
    assert Add.run(1) == (3, [1])
    assert Add.run(right=5, left=1) == (6, [1])
    assert Add.run(1, seen=[0]) == (3, [0, 1])


def test_wrong_fields_are_a_type_error_naming_command_and_field():
    with pytest.raises(TypeError, match=r"Add.*'left'"):
        Add.run()
    with pytest.raises(TypeError, match=r"Add.*'middle'"):
        Add.run(1, middle=3)


def test_options_are_inherited_and_are_not_fields():
    class Base(Mandate):
        queue = "mailers"
        timeout = 5
        name: str = "x"

    class Child(Base):
        timeout = None

        def call(self):
            return self.name

    assert (Child.queue, Child.timeout, Child.result_ttl) == ("mailers", None, 500)
    assert [f.name for f in dataclasses.fields(Child)] == ["name"]
    assert Child.run("y") == "y"


@pytest.mark.parametrize("name", [*options.DEFAULTS, *sorted(options.RESERVED), "_private"])
def test_a_field_named_like_an_option_is_refused_when_the_class_is_defined(name):
    with pytest.raises(CommandDefinitionError, match=rf"Odd: a field cannot be called '{name}'"):
        type("Odd", (Mandate,), {"__annotations__": {name: int}})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("queue", ""),
        ("queue", 7),
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", "1m"),
        ("timeout", True),
        ("result_ttl", -1),
        ("result_ttl", 1.5),
        ("result_ttl", None),
        ("log_arguments", "no"),
    ],
)
def test_an_invalid_option_is_refused_naming_class_option_and_value(option, value):
    with pytest.raises(CommandDefinitionError, match=rf"Odd: {option} = {value!r} is impossible"):
        type("Odd", (Mandate,), {option: value, "call": lambda self: None})


def test_a_class_without_call_is_not_a_command():
    class Half(Mandate):
        pass

    with pytest.raises(CommandDefinitionError, match=r"Half has no `call`"):
        Half.run()


def test_a_command_has_no_job_when_it_runs_now():
    class Ask(Mandate):
        def call(self):
            return self.job

    assert Ask.run() is None


def test_a_command_reads_well_and_keeps_its_secrets():
    assert repr(Add(1, seen=[])) == "Add(left=1, right=2, seen=[])"
    assert repr(KeepSecret("hunter2")) == "KeepSecret(...)"


@pytest.mark.django_db(transaction=True)
def test_an_async_command_runs_to_completion():
    assert WriteNoteSlowly.run("slow") == "slow"
    assert Note.objects.get().text == "slow"


@pytest.mark.django_db(transaction=True)
def test_plain_and_async_commands_run_from_async_code():
    async def both():
        return await WriteNote.arun("sync"), await WriteNoteSlowly.arun("async")

    key, text = asyncio.run(both())

    assert Note.objects.get(pk=key).text == "sync"
    assert text == "async"


def test_a_coroutine_that_was_not_awaited_is_an_error():
    class Forgetful(Mandate):
        def call(self):
            return asyncio.sleep(0)

    with pytest.raises(TypeError, match=r"Forgetful.call returned a coroutine"):
        Forgetful.run()


def yielding(self):
    yield 1


async def yielding_async(self):
    yield 1


async def awaited(self):
    await asyncio.sleep(0)
    return "through"


def define(name, value, **more):
    return type("Odd", (Mandate,), {"call": lambda self: None, name: value, **more})


@pytest.mark.parametrize("wrap", [lambda f: f, staticmethod, classmethod, partialmethod, partial])
@pytest.mark.parametrize(("function", "kind"), [(yielding, "a generator"), (yielding_async, "an async generator")])
@pytest.mark.parametrize("name", ["call", "on_retry", "on_dead", "on_discard", "unique_key", "__post_init__"])
def test_a_method_with_yield_is_refused_when_the_class_is_defined(name, function, kind, wrap):
    with pytest.raises(CommandDefinitionError, match=rf"Odd.{name} is {kind} function: .* without `yield`"):
        define(name, wrap(function))


def test_an_inherited_call_is_refused_too():
    class Mixin:
        call = yielding

    with pytest.raises(CommandDefinitionError, match="Odd.call is a generator function"):
        type("Odd", (Mixin, Mandate), {})


@pytest.mark.parametrize("name", ["unique_key", "__post_init__"])
def test_a_coroutine_function_is_refused_where_it_could_not_be_awaited(name):
    with pytest.raises(CommandDefinitionError, match=rf"Odd.{name} is a coroutine function: .* plain `def`"):
        define(name, awaited)


@pytest.mark.parametrize("call", [awaited, partialmethod(awaited), staticmethod(partial(awaited, None))])
def test_a_wrapped_coroutine_function_is_run_to_completion(call):
    command = define("call", call)

    assert command.is_async
    assert command.run() == "through"
    assert asyncio.run(command.arun()) == "through"


def test_a_decorator_may_run_the_generator_that_it_wraps():
    @wraps(yielding)
    def call(self):
        return list(yielding(self))

    assert define("call", call).run() == [1]


async def a_task(self):
    return asyncio.create_task(asyncio.sleep(0))


async def a_future(self):
    return asyncio.get_running_loop().create_future()


UNRUN = {
    "a generator": lambda self: yielding(self),
    "an async generator": lambda self: yielding_async(self),
    "a coroutine": wraps(awaited)(lambda self: awaited(self)),
    "an awaitable": a_task,
    "an awaitable nobody": a_future,
    "a context manager": contextmanager(yielding),
    "a context manager nobody": asynccontextmanager(yielding_async),
    "a `map`": lambda self: map(print, [1]),
    "a `filter`": lambda self: filter(print, [1]),
}


@pytest.mark.parametrize(("what", "call"), UNRUN.items(), ids=UNRUN)
@pytest.mark.parametrize("how", ["run", "arun", "perform"])
def test_a_call_that_has_not_done_its_work_is_an_error(how, what, call, monkeypatch):
    command = define("call", call)
    run = {
        "run": command.run,
        "arun": lambda: asyncio.run(command.arun()),
        "perform": lambda: perform("sample.Odd"),
    }[how]

    monkeypatch.setitem(registry._commands, "sample.Odd", command)
    with pytest.raises(TypeError, match=f"Odd.call returned {what}"):
        run()
    gc.collect()  # a coroutine that nobody awaited would warn here, which fails the test


def test_a_generator_that_has_begun_is_closed():
    ended = []

    def begun():
        try:
            yield
        finally:
            ended.append(True)
            raise ValueError("while it was closed")

    def call(self):
        rows = begun()
        next(rows)
        return rows

    with pytest.raises(TypeError, match="a generator"):
        define("call", call).run()
    assert ended == [True]


def test_other_results_are_returned_unchanged():
    class Odd:
        __class__ = property(lambda self: 1 / 0)

    for result in (iter([1]), Odd(), range(3), io.StringIO()):
        assert define("call", lambda self, result=result: result).run() is result


def test_commands_are_named_like_models_in_any_module():
    assert registry.name_of(ShoutNote) == "sample.ShoutNote"
    assert registry.get("sample.ShoutNote") is ShoutNote


def test_the_commands_of_every_app_are_registered_on_start_up():
    assert {"users.Bootstrap", "users.SendWelcomeEmail", "sample.Fail"} <= set(registry.all_commands())


def test_a_command_outside_every_app_runs_but_cannot_be_deferred():
    assert Add.run(1)
    with pytest.raises(CommandDefinitionError, match=r"Add cannot be deferred: its module belongs to no installed"):
        Add.defer(1)
    assert Fail in registry.all_commands().values()
