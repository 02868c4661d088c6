"""The types of fields are checked at `defer`, as far as an annotation says them, and nothing that works is refused."""

import collections
import dataclasses
import enum
from collections import abc
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    NewType,
    Optional,
    Protocol,
    TypedDict,
    TypeVar,
    TypeVarTuple,
    Union,
)
from unittest import mock
from uuid import UUID, uuid4

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AbstractUser, Group
from django.db import models
from django.db.migrations.state import ModelState, ProjectState
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy

from jobs import Mandate
from jobs.client import field_types
from jobs.errors import CommandDefinitionError, SerializationError
from jobs.scheduler import Entry
from jobs.testing import Kit
from tests.sample.commands.notes import WriteNote
from tests.sample.models import Folder, Note
from users.models import User

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
NoteId = NewType("NoteId", int)
Json = Union[str, int, list["Json"], dict[str, "Json"]]  # noqa: UP007


class NoteProxy(Note):
    class Meta:
        proxy = True
        app_label = "sample"


class Level(enum.Enum):
    LOW = 1


class Size(enum.IntEnum):
    SMALL = 1


class Options(TypedDict):
    a: int


class Named(Protocol):
    name: str


Mood = Note.Mood
NOW = datetime(2026, 7, 1, tzinfo=UTC)


def saved(record):
    record._state.adding = False
    return record


NOTE = saved(Note(pk=7))
LAZY = SimpleLazyObject(lambda: NOTE)


def checks(wanted, value, /, **more):
    """Check the value for a field of that annotation, as `defer` does."""
    body = {"__annotations__": {"value": wanted}, "__module__": __name__, "call": lambda self: None}
    command = type("Checked", (Mandate,), {**body, **more})
    field_types.check(command, command(value), (value,), {})


class FakeNow(datetime):
    """As freezegun's."""


PASS = [
    *[(int, 1), (int, True), (int, Size.SMALL), (int, 2**70), (int, SimpleLazyObject(lambda: 7))],
    *[(float, 1), (float, 1.5), (float, Decimal(1)), (Decimal, 1), (Decimal, Decimal("1.5")), (Decimal, 1.5)],
    *[(bool, True), (bool, 0), (bool, 1), (bytes, b"x"), (UUID, uuid4()), (time, time(1)), (timedelta, timedelta(1))],
    *[(str, "x"), (str, mark_safe("x")), (str, gettext_lazy("Monday")), (str, Mood.CALM)],
    *[(datetime, NOW), (datetime, FakeNow.now()), (date, NOW.date()), (date, NOW)],
    *[(Note, NOTE), (Note, LAZY), (Note, NoteProxy(pk=7)), (NoteProxy, NOTE), (models.Model, NOTE)],
    *[(AbstractUser, User(pk=1)) if issubclass(User, AbstractUser) else (User, User(pk=1))],
    *[(int | None, None), (Optional[Note], None), (Union[int, str], "x"), (Note | int, 7), (None, None)],  # noqa: UP007, UP045
    *[(Literal["a", 1], "a"), (Literal["a", 1], 1), (Literal["calm"], Mood.CALM), (Literal[Mood.CALM], "calm")],
    *[(Level, Level.LOW), (Mood, Mood.CALM), (Mood, "calm"), (Size, 1), (enum.Enum, Level.LOW)],
    *[(list[Note], [NOTE, LAZY]), (list[int], (1, 2)), (list[int], range(3)), (list[int], {1}), (list, ["x"])],
    *[(set[int], [1]), (tuple[int, ...], (1, 2)), (tuple[int, str], (1, "a")), (tuple[()], ())],
    *[(list[list[int]], [[1]])],
    *[(abc.Sequence[int], [1]), (abc.Sequence[str], "abc"), (abc.Iterable[int], {1: 2})],
    *[(abc.Collection[Note], (NOTE,))],
    *[(dict, {"a": 1}), (dict[str, int], {"a": 1}), (dict[str, Any], {"a": NOTE}), (abc.Mapping[str, int], {"a": 1})],
    *[(dict[str, int], collections.OrderedDict(a=1)), (Options, {"a": 1}), (list[Any], [1, "a", None])],
    *[(Annotated[int, "pk"], 7), (NoteId, 7), (list[NoteId], [7]), (Annotated[int | None, "pk"], None)],
    *[("int", 7), ("list[Note]", [NOTE]), ("Parcel", 7), ("list[Parcel]", "x"), ("no such thing(", 7), ("1/0", 7)],
    *[(Any, object()), (object, 7), (T, 7), (list[T], [7]), (Named, 7), (Named | int, "x"), (type[Note], Note)],
    *[(tuple[int, *tuple[str, ...]], (1, "a", "b")), (tuple[int, *Ts], (1, "a")), (models.TextChoices, "calm")],
    *[(Final[int], "x"), (Json, {"a": [1]}), (Annotated["Note | None", "who"], NOTE), (list["Note"], [NOTE])],
    *[(abc.Callable[[], int], 7), (SimpleLazyObject, 7), (7, "x"), (Literal["a"] | Named, 7)],
]


@pytest.mark.parametrize(("wanted", "value"), PASS)
def test_what_fits_and_what_cannot_be_checked_passes(wanted, value):
    checks(wanted, value)


REFUSED = [
    *[(int, "7"), (int, None), (int, 1.5), (int, NOTE), (int, [7]), (float, "1"), (Decimal, "1"), (bool, 7)],
    *[(bool, "")],
    *[(str, 7), (str, None), (str, b"x"), (str, NOTE), (bytes, "x"), (UUID, "x"), (timedelta, 60), (time, NOW)],
    *[(datetime, "yesterday"), (datetime, NOW.date()), (datetime, 0), (date, "2026-07-01")],
    *[
        (Note, 7),
        (Note, "7"),
        (Note, None),
        (Note, saved(Folder(path="a"))),
        (Note, [NOTE]),
        (User, saved(Group(pk=1))),
    ],
    *[(Note, SimpleLazyObject(lambda: saved(User(pk=1)))), (models.Model, 7)],
    *[(int | None, "7"), (Note | None, 7), (Note | int, "7"), (Optional[datetime], "now")],  # noqa: UP045
    *[(Literal["a"], "b"), (Literal["a"], None), (Level, 1), (Level, "LOW"), (Mood, "odd"), (Mood, Level.LOW)],
    *[(Size, 2)],
    *[(list[Note], [NOTE, 7]), (list[Note], NOTE), (list[int], "abc"), (list, "abc"), (list[str], "abc"), (list, 7)],
    *[(tuple[int, str], (1,)), (tuple[int, str], (1, 2)), (tuple[int, ...], (1, "a")), (list[int | None], ["a"])],
    *[(dict, []), (dict[str, int], {"a": "b"}), (dict[str, int], {1: 1}), (abc.Sequence[int], 7), (Options, 7)],
    *[(Annotated[int, "pk"], "7"), (NoteId, "7"), ("int", "7"), ("list[Note]", [7]), (list[list[int]], [["a"]])],
]


@pytest.mark.parametrize(("wanted", "value"), REFUSED)
def test_what_does_not_fit_is_refused(wanted, value):
    with pytest.raises(TypeError, match=r"^Checked cannot be deferred: its field 'value' is annotated .*strict_types"):
        checks(wanted, value)


@pytest.mark.parametrize(("wanted", "value"), REFUSED)
def test_with_strict_types_off_it_is_not(wanted, value):
    checks(wanted, value, strict_types=False)


def test_a_record_of_a_migrations_state_is_one_of_its_model():
    state = ProjectState()
    state.add_model(ModelState("sample", "Note", [("id", models.AutoField(primary_key=True))]))
    state.add_model(ModelState("sample", "Folder", [("path", models.CharField(max_length=9, primary_key=True))]))
    checks(Note, state.apps.get_model("sample.Note")(pk=7))
    with pytest.raises(TypeError):
        checks(Note, state.apps.get_model("sample.Folder")(pk="7"))


def test_none_passes_for_a_field_whose_default_it_is_and_defaults_are_not_checked():
    checks(Note, None, value=None)
    with pytest.raises(TypeError):
        checks(Note, 7, value=None)

    class Odd(Mandate):
        value: int = "all"

        def call(self) -> None: ...

    field_types.check(Odd, Odd(), (), {})


def test_the_default_itself_may_be_given_whatever_its_type():
    for default in ("all", None, dataclasses.field(default="all")):
        given = "all" if isinstance(default, dataclasses.Field) else default
        checks(int, given, value=default)
        with pytest.raises(TypeError):
            checks(int, "some", value=default)


class Counted(Mandate):
    start: dataclasses.InitVar[int]
    at: datetime

    def __post_init__(self, start: int) -> None:
        self.at = [self.at, start]

    def call(self) -> None: ...


def test_arguments_that_are_no_fields_shift_no_others():
    field_types.check(Counted, Counted(7, NOW), (7, NOW), {})
    with pytest.raises(TypeError, match="field 'at' is annotated datetime, but was given 'now'"):
        field_types.check(Counted, Counted(7, "now"), (7, "now"), {})


def test_the_option_counts_when_it_is_set_later_too():
    body = {"__annotations__": {"value": int}, "__module__": __name__, "call": lambda self: None}
    command = type("Checked", (Mandate,), body)
    with pytest.raises(TypeError):
        field_types.check(command, command("x"), ("x",), {})
    with mock.patch.object(command, "strict_types", False):
        field_types.check(command, command("x"), ("x",), {})
    with pytest.raises(TypeError):
        field_types.check(command, command("x"), ("x",), {})


def test_a_name_that_a_field_shares_with_its_type_is_the_type():
    class Due(Mandate):
        date: "date | None" = None

        def call(self) -> None: ...

    field_types.check(Due, Due(NOW), (NOW,), {})
    with pytest.raises(TypeError, match="'date' is annotated"):
        field_types.check(Due, Due("now"), (), {"date": "now"})


def test_what_a_command_converts_itself_passes_before_and_after():
    class Converts(Mandate):
        at: datetime
        name: str

        def __post_init__(self) -> None:
            self.at = datetime.fromisoformat(self.at) if isinstance(self.at, str) else self.at
            self.name = self.name.encode()

        def call(self) -> None: ...

    for at in ("2026-07-01", NOW):
        field_types.check(Converts, Converts(at, "x"), (at,), {"name": "x"})


class Base(Mandate, Generic[T]):
    item: T
    at: datetime

    class Kind(enum.Enum):
        ONE = 1


class Inherits(Base[int], kw_only=True):
    kind: "Base.Kind | None" = None

    def call(self) -> None: ...


def test_inherited_and_keyword_fields_are_checked():
    field_types.check(Inherits, Inherits("x", NOW, kind=Base.Kind.ONE), ("x", NOW), {"kind": Base.Kind.ONE})
    with pytest.raises(TypeError, match="field 'at' is annotated datetime, but was given 'now', of type str"):
        field_types.check(Inherits, Inherits("x", "now"), ("x", "now"), {})
    with pytest.raises(TypeError, match="field 'kind'"):
        field_types.check(Inherits, Inherits("x", NOW, kind=1), ("x", NOW), {"kind": 1})


def test_defer_and_defer_many_refuse_before_anything_is_written_and_name_the_row():
    with Kit() as jobs:
        with pytest.raises(TypeError, match="'text' is annotated str, but was given 7, of type int"):
            WriteNote.defer(7)
        with pytest.raises(TypeError) as caught:
            WriteNote.defer_many([("x",), {"text": 7}])
        assert "row 1" in caught.value.__notes__[0]
        for defer in (WriteNote.using(wait=60).defer, async_to_sync(WriteNote.adefer)):
            with pytest.raises(TypeError, match="'text' is annotated str, but was given 7"):
                defer(7)
        (problem,) = Entry("daily", WriteNote, args=(7,), every=60).problems()
        assert "'text' is annotated str, but was given 7" in problem
        with pytest.raises(SerializationError, match=r"unittest\.mock\.MagicMock"):
            WriteNote.defer(mock.MagicMock(spec=Note))
        jobs.assert_no_enqueued_jobs()


def test_private_values_are_not_in_the_error():
    for more, annotations in (({"log_arguments": False}, {"value": int}), ({}, {"token": int})):
        body = {"__annotations__": annotations, "__module__": __name__, "call": lambda self: None, **more}
        command = type("Private", (Mandate,), body)
        with pytest.raises(TypeError) as caught:
            field_types.check(command, command("hunter2"), ("hunter2",), {})
        assert "hunter2" not in str(caught.value)
    for wanted, value in ((int, {"token": "hunter2"}), (list[int], [{"password": "hunter2"}])):
        with pytest.raises(TypeError, match=r"\[filtered\]") as caught:
            checks(wanted, value)
        assert "hunter2" not in str(caught.value)


def test_the_option_is_a_switch():
    with pytest.raises(CommandDefinitionError, match="strict_types = 1 is impossible"):
        type("Odd", (Mandate,), {"strict_types": 1, "call": lambda self: None, "__module__": __name__})
