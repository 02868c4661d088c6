"""What a command may declare as limits."""

from datetime import timedelta

import pytest

from jobs import Concurrency, Mandate, Rate
from jobs.errors import CommandDefinitionError
from jobs.limits import policy, values


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Concurrency(0), "n = 0 is impossible. It must be a whole number from 1"),
        (lambda: Concurrency(True), "n = True"),
        (lambda: Concurrency(1, on_full="drop"), "on_full = 'drop'"),
        (lambda: Concurrency(1, key=7), "key = 7"),
        (lambda: Concurrency(1, group="a\nb"), "group = 'a"),
        (lambda: Rate(1, per=0), "per = 0"),
        (lambda: Rate(1, per=timedelta(0)), "per = datetime.timedelta"),
        (lambda: Rate(5, per=1, cost=6), "cost = 6 is impossible. It must be 5 at most"),
        (lambda: Rate(5, per=1, burst=0), "burst = 0"),
        (lambda: Rate(1.5, per=1), "n = 1.5"),
    ],
)
def test_an_impossible_limit_is_refused_where_it_is_written(make, message):
    with pytest.raises(CommandDefinitionError) as refused:
        make()

    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limits": 3}, "limits = 3 is impossible"),
        ({"limits": [Concurrency(1, key="shop")]}, "names 'shop', which is no field. Its fields are: number."),
        ({"limit_on": {ValueError: 30}}, "the command needs `limits`"),
        ({"limits": [Concurrency(1)], "limit_on": {"ValueError": 30}}, "limit_on = {'ValueError': 30}"),
        ({"limits": [Concurrency(1)], "limit_on": {ValueError: -1}}, "limit_on ="),
    ],
)
def test_a_command_with_an_impossible_limit_is_refused_at_its_definition(options, message, own_commands):
    body = {"__annotations__": {"number": int}, "call": lambda self: None, "__module__": __name__, **options}

    with pytest.raises(CommandDefinitionError) as refused:
        type("Wrong", (Mandate,), body)

    assert message in str(refused.value)


def test_a_limit_has_one_name_for_all_commands_of_its_group():
    class One:
        limits = [Rate(40, per=60, key=["shop", "day"], group="api"), Rate(1, per=1, key=["shop", "day"], group="api")]

    assert policy.ids(One, "sample.One") == ("api:rate:shop+day", "api:rate2:shop+day")


def test_the_value_of_a_key_is_its_json_or_a_digest():
    assert values.text(7) == "7"
    assert values.text("a\tb\n") == '"a\\tb\\n"'
    assert values.text("x" * 10_000) == values.text("x" * 10_000)
    assert len(values.text("x" * 10_000)) < 50
