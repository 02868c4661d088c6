"""What a command is: its fields, its options, running it now."""

import asyncio
import dataclasses
from dataclasses import KW_ONLY, field

import pytest

from jobs import Mandate, options, registry
from jobs.errors import CommandDefinitionError
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


def test_options_are_inherited_and_are_no_fields():
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
def test_an_impossible_option_is_refused_naming_class_option_and_value(option, value):
    with pytest.raises(CommandDefinitionError, match=rf"Odd: {option} = {value!r} is impossible"):
        type("Odd", (Mandate,), {option: value, "call": lambda self: None})


def test_a_class_without_call_is_no_command():
    class Half(Mandate):
        pass

    with pytest.raises(CommandDefinitionError, match=r"Half has no `call`"):
        Half.run()


def test_commands_know_no_job_when_they_run_now():
    class Ask(Mandate):
        def call(self):
            return self.job

    assert Ask.run() is None


def test_a_command_reads_well_and_keeps_its_secrets():
    assert repr(Add(1, seen=[])) == "Add(left=1, right=2, seen=[])"
    assert repr(KeepSecret("hunter2")) == "KeepSecret(...)"


@pytest.mark.django_db(transaction=True)
def test_an_async_command_runs_to_its_end():
    assert WriteNoteSlowly.run("slow") == "slow"
    assert Note.objects.get().text == "slow"


@pytest.mark.django_db(transaction=True)
def test_both_colours_of_command_run_from_async_code():
    async def both():
        return await WriteNote.arun("sync"), await WriteNoteSlowly.arun("async")

    key, text = asyncio.run(both())

    assert Note.objects.get(pk=key).text == "sync"
    assert text == "async"


def test_a_coroutine_that_nobody_awaited_is_an_error_and_no_result():
    class Forgetful(Mandate):
        def call(self):
            return asyncio.sleep(0)

    with pytest.raises(TypeError, match=r"Forgetful.call returned a coroutine"):
        Forgetful.run()


def test_commands_are_named_like_models_wherever_their_module_lies():
    assert registry.name_of(ShoutNote) == "sample.ShoutNote"
    assert registry.get("sample.ShoutNote") is ShoutNote


def test_the_commands_of_every_app_are_known_at_start_up():
    assert {"users.Bootstrap", "users.SendWelcomeEmail", "sample.Fail"} <= set(registry.all_commands())


def test_a_command_outside_every_app_runs_but_cannot_be_deferred():
    assert Add.run(1)
    with pytest.raises(CommandDefinitionError, match=r"Add cannot be deferred: its module belongs to no installed"):
        Add.defer(1)
    assert Fail in registry.all_commands().values()
