"""The drawing of a flow: its steps by layers, their states and times, and the path that takes longest."""

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.batches.rows import BatchRow
from jobs.batches.workflow import Workflow
from jobs.broker import keys
from jobs.broker.times import as_text, time_of
from jobs.dashboard.dependencies import Graph, Node
from jobs.dashboard.format import span
from jobs.record import payload
from jobs.record.states import state_of

DRAWN = 100  # steps up to which a flow is drawn
FIELDS = ("status", "state", "started_at", "ended_at", "data")


def graph_of(row: BatchRow) -> Graph | None:
    """Return the steps of a flow; None for a batch that is none, or for more than DRAWN steps."""
    if not row.is_flow or row.total > DRAWN:
        return None
    edges = Workflow.handle(row.id, row.client).graph()
    with row.client.pipeline(transaction=False) as pipeline:
        for job_id in edges:
            pipeline.hmget(keys.job(job_id), *FIELDS)
        fields: dict[str, Any] = dict(zip(edges, pipeline.execute(), strict=True))
    seconds = {job_id: _seconds(fields[job_id]) for job_id in edges}
    layers: dict[str, int] = {}
    for job_id, before in edges.items():
        layers[job_id] = 1 + max((layers[each] for each in before if each in layers), default=0)
    nodes = [_node(job_id, layers[job_id], fields[job_id], seconds[job_id]) for job_id in edges]
    pairs = [(each, job_id) for job_id, before in edges.items() for each in before if each in edges]
    return Graph(nodes, pairs, _critical(edges, seconds))


def mermaid(graph: Graph) -> str:
    """Return the flow as Mermaid writes graphs."""
    names = {node.id: f"s{at}" for at, node in enumerate(graph.nodes)}
    nodes = [f'  {names[node.id]}["{node.name}: {node.state}"]' for node in graph.nodes]
    return "\n".join(["graph LR", *nodes, *(f"  {names[one]} --> {names[other]}" for one, other in graph.edges)])


def _node(job_id: str, layer: int, fields: Sequence[bytes | None], seconds: float) -> Node:
    status, state, _started, _ended, data = fields
    call = payload.peek(data) if data else None
    try:
        known = state_of(as_text(status or b""), as_text(state or b"")).value
    except ValueError:
        known = ""
    name = call.name.rpartition(".")[2] if call else job_id
    return Node(job_id, layer, name, known, note=span(seconds) if seconds else "")


def _seconds(fields: Sequence[bytes | None]) -> float:
    started, ended = time_of(fields[2]), time_of(fields[3])
    return max(0.0, (ended - started).total_seconds()) if started and ended else 0.0


def _critical(edges: Mapping[str, Sequence[str]], seconds: Mapping[str, float]) -> frozenset[str]:
    """Return the steps of the path that takes longest, as far as times are known."""
    until: dict[str, float] = {}
    last: dict[str, str] = {}
    for job_id, before in edges.items():
        known = [each for each in before if each in until]
        longest = max(known, key=lambda each: until[each], default="")
        until[job_id] = seconds[job_id] + until.get(longest, 0.0)
        last[job_id] = longest
    at = max(until, key=lambda each: until[each], default="")
    path = set()
    while at:
        path.add(at)
        at = last[at]
    return frozenset(path)
