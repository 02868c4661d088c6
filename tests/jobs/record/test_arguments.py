"""Arguments round-trip through Redis exactly, or are refused at the caller."""

import collections
import enum
import math
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from unittest import mock
from zoneinfo import ZoneInfo

import orjson
import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import OperationalError
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy, override
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import MissingRecordError, NewerPayloadError, PayloadError, SerializationError
from jobs.record import arguments
from tests.sample.commands.notes import ShoutNote
from tests.sample.models import Folder, Guarded, Line, Note, Parcel

Point = collections.namedtuple("Point", "x y")


class Level(enum.IntEnum):
    LOW = 1


class Mode(enum.Flag):
    READ = 1
    WRITE = 2


class Shouting(str):
    __slots__ = ()

    def __str__(self):
        return self.upper()


def round_trip(value):
    return arguments.decode(orjson.loads(orjson.dumps(arguments.encode(value))))


zones = st.sampled_from([None, UTC, timezone(timedelta(hours=5, minutes=45)), *map(ZoneInfo, ("Europe/Paris", "UTC"))])
datetimes = st.datetimes(timezones=zones).flatmap(lambda when: st.sampled_from([when, when.replace(fold=1)]))
hashable = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(),
    datetimes,
    st.dates(),
    st.times(timezones=zones),
    st.timedeltas(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.uuids(),
    st.builds(range, st.integers(-5, 5), st.integers(-5, 5), st.integers(1, 3)),
    st.sampled_from([Note.Mood.LOUD, Level.LOW, Mode.READ, Note, ShoutNote, mark_safe("<b>")]),
    st.builds(Point, st.integers(), st.text("ab")),
)
values = st.recursive(
    hashable,
    lambda children: st.one_of(
        st.lists(children),
        st.lists(children).map(tuple),
        st.sets(hashable),
        st.frozensets(hashable),
        st.dictionaries(hashable, children),
        st.dictionaries(st.sampled_from(["$record", "$int", "using", "a"]), children),
    ),
    max_leaves=20,
)


def same(left, right):
    """Equal, of one type, all the way down: 1 == True == 1.0 == Decimal(1) is not enough."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))
    if isinstance(left, datetime | time):
        return (left.replace(tzinfo=None), left.fold, str(left.tzinfo)) == (
            right.replace(tzinfo=None),
            right.fold,
            str(right.tzinfo),
        )
    if isinstance(left, float | Decimal):
        return str(left) == str(right)
    return left == right


@given(values)
def test_every_supported_value_round_trips_exactly(value):
    assert same(value, round_trip(value))


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 10**5000, 2**63, -(2**63)], ids=hash)
def test_integers_of_any_size_are_exact(value):
    assert round_trip(value) == value


def test_the_second_half_past_two_of_an_autumn_night_stays_the_second():
    when = datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris"))

    assert round_trip(when).utcoffset() == timedelta(hours=1)
    assert round_trip(when).tzinfo.key == "Europe/Paris"


def test_a_lazy_text_is_sent_in_the_language_of_the_caller():
    with override("de"):
        sent = arguments.encode(gettext_lazy("Yes"))

    assert sent == "Ja"


def test_equal_sets_give_equal_payloads():
    assert arguments.encode({"b", "a", "c"}) == arguments.encode({"c", "b", "a"})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "float nan"),
        (-math.inf, "float -inf"),
        (Decimal("NaN"), "Decimal NaN"),
        (object(), "builtins.object"),
        (lambda: None, "builtins.function"),
        ("\ud800", "lone surrogate"),
        (collections.OrderedDict(a=1), "OrderedDict"),
        (collections.defaultdict(int), "defaultdict"),
        (Mode.READ | Mode.WRITE, "Mode.READ|WRITE"),
        (int, "the class int"),
        (Note(text="unsaved"), "unsaved sample.Note"),
        (Parcel(), "unsaved sample.Parcel"),
        (Line(order="a", number=1), "unsaved sample.Line"),
        (SimpleLazyObject(object), "builtins.object"),
        (datetime(2026, 1, 1, tzinfo=type("Odd", (timezone.__base__,), {})()), "time zone of type Odd"),
    ],
)
def test_a_value_that_cannot_be_sent_exactly_is_refused(value, reason):
    with pytest.raises(SerializationError, match=reason.replace("|", r"\|")):
        arguments.encode([{"deep": (value,)}])


@pytest.mark.parametrize("spec", [Note, Note(pk=7), datetime(2026, 1, 1), Level.LOW, "text", {}, str], ids=repr)
@pytest.mark.parametrize("make", [mock.MagicMock, mock.NonCallableMock, mock.create_autospec])
def test_a_mock_is_refused_whatever_it_stands_for(spec, make):
    with pytest.raises(SerializationError, match=r"is of type unittest\.mock|is of type builtins.function"):
        arguments.encode(make(spec=spec))


def test_a_class_that_cannot_be_found_again_is_refused():
    class Local(enum.Enum):
        ONE = 1

    with pytest.raises(SerializationError, match="cannot be found again"):
        arguments.encode(Local.ONE)


def nested(levels):
    value = []
    for _ in range(levels - 1):
        value = {(1,): value}
    return value


def test_nesting_is_bounded_where_every_reader_can_follow():
    assert round_trip(nested(arguments.MAX_NESTING)) == nested(arguments.MAX_NESTING)
    for levels in (arguments.MAX_NESTING + 1, 2_000, 100_000):
        with pytest.raises(SerializationError, match="deeper than 80 levels"):
            arguments.encode(nested(levels))


@pytest.mark.django_db
def test_a_record_travels_as_a_reference_and_is_fetched_fresh():
    note = Note.objects.create(text="old")
    sent = arguments.encode(note)
    Note.objects.update(text="new")

    assert sent == {"$record": f"sample.Note:{note.pk}"}
    assert arguments.decode(sent).text == "new"
    assert arguments.encode(SimpleLazyObject(lambda: note)) == sent


@pytest.mark.django_db
@pytest.mark.parametrize(
    "make",
    [
        Parcel,
        lambda: Folder(path="a:b/c"),
        lambda: Guarded(hidden=True),
        lambda: Line(order='a:["b", 1]', number=-7),
    ],
)
def test_keys_of_every_type_and_records_behind_a_manager_are_found(make):
    record = make()
    record.save()

    assert round_trip(record) == record


@pytest.mark.django_db
def test_many_records_take_one_query_a_model(django_assert_num_queries):
    notes = Note.objects.bulk_create(Note(text=str(n)) for n in range(20))
    content_type = ContentType.objects.get_for_model(Note)
    sent = arguments.encode({"notes": notes, "again": notes[3], "of": (content_type,)})

    with django_assert_num_queries(2):
        received = arguments.decode(sent)

    assert received == {"notes": notes, "again": notes[3], "of": (content_type,)}
    assert received["again"] is received["notes"][3]


@pytest.mark.django_db
def test_records_with_composite_keys_are_fetched_together_and_named_when_they_are_gone(django_assert_num_queries):
    lines = [Line.objects.create(order="a", number=n, text=str(n)) for n in range(3)]
    sent = arguments.encode(lines)
    with django_assert_num_queries(1):
        received = arguments.decode(sent)
    assert [line.text for line in received] == ["0", "1", "2"]

    deleted = Line.objects.get(number=1)
    deleted.delete()
    with pytest.raises(MissingRecordError) as caught:
        arguments.decode(sent)
    assert caught.value.references == ['sample.Line:["a", "1"]']
    with pytest.raises(SerializationError, match=r"unsaved sample\.Line"):
        arguments.encode(deleted)


def test_what_a_lazy_object_stands_for_is_sent():
    assert arguments.encode(SimpleLazyObject(lambda: "text")) == "text"
    assert arguments.encode([SimpleLazyObject(lambda: {"a": 1})]) == [{"a": 1}]


@pytest.mark.django_db
def test_every_record_that_is_gone_is_named():
    gone, kept = Note.objects.create(), Note.objects.create()
    sent = arguments.encode([gone, kept, gone])
    reference = sent[0]["$record"]
    gone.delete()

    with pytest.raises(MissingRecordError, match=reference) as caught:
        arguments.decode([sent, {"$record": "sample.Folder:nowhere"}])
    assert caught.value.references == [reference, "sample.Folder:nowhere"]


@pytest.mark.django_db
def test_a_database_that_fails_is_not_a_missing_record(monkeypatch):
    sent = arguments.encode(Note.objects.create())

    def down(*args, **kwargs):
        raise OperationalError("server closed the connection")

    monkeypatch.setattr("django.db.models.QuerySet.in_bulk", down)
    with pytest.raises(OperationalError):
        arguments.decode(sent)


@pytest.mark.parametrize(
    "payload",
    [
        {"$record": "no.Model:1"},
        {"$record": "sample.Note:seven"},
        {"$record": "sample.Note:1", "using": "nowhere"},
        {"$record": 7},
        {"$record": None},
        {"$nonsense": 1},
        {"$model": "no.Model"},
        {"$command": "no.Command"},
        {"$uuid": "zz"},
        {"$enum": ["os:environ", "HOME"]},
        {"$enum": ["builtins:int", "real"]},
        {"$enum": ["not.loaded:Thing", "ONE"]},
        {"$subclass": ["subprocess:Popen", "str", "id"]},
        {"$subclass": ["builtins:bool", "object", "id"]},
        {"$datetime": ["2026-01-01T00:00:00", "Mars/Olympus", 0]},
        {"$int": "10" * 3 + "g"},
    ],
)
def test_a_payload_that_nobody_encoded_is_refused_without_running_anything(payload):
    with pytest.raises(PayloadError):
        arguments.decode([payload])


@pytest.mark.django_db
@pytest.mark.parametrize(
    "payload",
    [
        {"$record": "no.Model:1"},
        {"$record": "sample.Newer:1"},
        {"$record": "sample.Note:1", "using": "nowhere"},
        {"$model": "sample.Newer"},
        {"$enum": ["not.loaded:Thing", "ONE"]},
        {"$enum": [f"{__name__}:Newer", "ONE"]},
        {"$enum": [f"{__name__}:Level", "NEWER"]},
        {"$subclass": [f"{__name__}:Newer", "str", "x"]},
        {"$datetime": ["2026-01-01T00:00:00", "Mars/Olympus", 0]},
        {"$newer": 1},
    ],
)
def test_a_name_that_this_release_does_not_have_may_be_newer(payload):
    with pytest.raises(NewerPayloadError):
        arguments.decode([payload])


def test_decoding_runs_no_constructor_that_a_payload_chooses():
    class_path = f"{__name__}:Shouting"
    received = arguments.decode({"$subclass": [class_path, "str", "quiet"]})

    assert type(received) is Shouting
    assert str.__str__(received) == "quiet"
    assert same(round_trip(Shouting("x")), Shouting("x"))
