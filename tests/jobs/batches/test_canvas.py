"""
Shapes of jobs that have hung, or never called back, elsewhere (Celery's issues 1662, 2554, 3538, 4401, 6029, 9674 and
their like), built as flows: each ends, and what comes last comes last.
"""

from collections import Counter

import pytest

from jobs import Batch, Workflow
from tests.jobs.batches.test_batch import notes, run
from tests.sample.commands.batches import Part, Say
from tests.sample.commands.flows import Add, FanIn, Fetch, Many, Tell
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True)


def group_in_group(flow):
    """A group whose members are groups, then a callback."""
    groups = [flow.add(Many, [f"{at}{each}" for each in "ab"]) for at in range(2)]
    flow.add(Tell, "last", after=groups)
    return ["0a", "0b", "1a", "1b", "last"]


def chain_of_groups(flow):
    """Each of the second group waits for all of the first."""
    first = [flow.add(Add, [number]) for number in (1, 2)]
    second = [flow.add(Add, [step.result for step in first]) for _ in range(2)]
    flow.add(Tell, [step.result for step in second])
    return ["[3, 3]"]


def chord_in_chord(flow):
    """The header of a chord is a chord, and its header again."""
    flow.add(Tell, "last", after=[flow.add(FanIn, 2, 2)])
    return [*["[3, 3]"] * 4, *["sum 1"] * 2, "sum 2", "last"]


def empty_header(flow):
    """A chord of no tasks."""
    opened = flow.add(Many, [])
    flow.add(Tell, [opened.result], after=[opened])
    return ["[0]"]


def failing_header(flow):
    """One task of the header fails; the body runs all the same."""
    Note.objects.create(text="bad")
    flow.add(Tell, [flow.add(Fetch, 1).result, flow.add(Add, [2]).result], on_failure="run")
    return ["[None, 2]", "bad"]


def chain_that_ends_with_a_group(flow):
    """The callback of all comes after the group at the end of the chain."""
    first = flow.add(Add, [1])
    for _ in range(3):
        flow.add(Tell, first.result)
    return ["1", "1", "1"]


def replaced_in_a_header(flow):
    """A task of the header becomes a flow; a sibling does not."""
    header = [flow.add(FanIn, 0, 2), flow.add(Tell, "sibling")]
    flow.add(Tell, "last", after=header)
    return ["[3, 3]", "sibling", "last"]


SHAPES = [group_in_group, chain_of_groups, chord_in_chord, empty_header, failing_header, chain_that_ends_with_a_group]


@pytest.mark.parametrize("build", [*SHAPES, replaced_in_a_header], ids=lambda build: build.__name__)
def test_each_shape_ends(build, worker):
    with Batch("outer", on_complete=Say.prepare("complete")) as outer:
        Part.defer("beside")
        with Workflow("f", on_complete=Say.prepare("complete")) as flow:
            expected = build(flow)
    run(worker)

    said = list(Note.objects.order_by("pk").values_list("text", flat=True))
    assert Counter(said) == Counter([*expected, "beside", "complete f", "complete outer"])
    assert said[-2:] == ["complete f", "complete outer"] and outer.has_ended
    assert "last" not in said or said.index("last") == len(said) - 3
    assert flow.has_succeeded == (build is not failing_header) and notes()
