"""Finds the batch or the flow that a test expects."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from jobs.batches import members, record
from jobs.batches.batch import Batch
from jobs.batches.workflow import Workflow
from jobs.testing.matching import ANYTHING
from jobs.testing.recorded import Recorded, command_name
from jobs.testing.scripts import ScriptedMemory

LISTED = 1_000  # batches of a test that are looked at


def find_batch(
    memory: ScriptedMemory, name: str, jobs: Any, callbacks: Mapping[str, Any], enqueued: Sequence[Recorded]
) -> Batch:
    """
    Return the batch of that name with so many members and these callbacks, by event. `enqueued`: the recorded pushes.
    AssertionError, with what there is, if there is none.
    """
    client: Any = memory
    pushed = {recorded.job.id: recorded.name for recorded in enqueued}
    others = []
    for batch_id in record.listed(client, 0, LISTED):
        ((header, counts, _),) = record.read_with_counts(client, [batch_id])
        if header is None:
            continue
        actual = {event: pushed.get(record.callback_id(batch_id, event)) for event in record.EVENTS}
        differences = [
            f"on_{event}: expected {_name(expected)}, was {actual[event]}"
            for event, expected in callbacks.items()
            if expected is not ANYTHING and _name(expected) != actual[event]
        ]
        total = sum(counts.values())
        if jobs is not ANYTHING and jobs != total:
            differences.append(f"jobs: expected {jobs}, was {total}")
        if header.name == name and not differences:
            return Batch.handle(batch_id, client)
        others.append("\n    ".join([f"{header.name!r}, {total} jobs", *(differences if header.name == name else ())]))
    found = "\n  ".join(others)
    raise AssertionError(f"Expected a batch {name!r}. " + (f"There was:\n  {found}" if others else "There was none."))


def find_flow(memory: ScriptedMemory, name: str, steps: Mapping[str, Collection[str]]) -> Workflow:
    """Return the flow of that name with these steps. AssertionError, with what there is, if there is none."""
    client: Any = memory
    others = []
    for batch_id in record.listed(client, 0, LISTED):
        header = record.read(client, batch_id)
        if header is None or not header.is_flow:
            continue
        flow = Workflow.handle(batch_id, client)
        graph = flow.graph()
        names = {job.id: str(job.command_name).rpartition(".")[2] for job in members.handles(client, list(graph))}
        actual: dict[str, set[str]] = {}
        for job_id, before in graph.items():
            actual.setdefault(names[job_id], set()).update(names[each] for each in before)
        if header.name == name and actual == {each: set(before) for each, before in steps.items()}:
            return flow
        others.append(f"{header.name!r}: {actual}")
    found = "\n  ".join(others)
    raise AssertionError(
        f"Expected a flow {name!r}: {steps}. " + (f"There was:\n  {found}" if others else "There was none.")
    )


def _name(command: Any) -> str | None:
    return None if command is None else command_name(command)
