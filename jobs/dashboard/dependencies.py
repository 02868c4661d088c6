"""The jobs around one job, in layers: its prerequisites and theirs on the left, dependents and theirs on the right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from redis import Redis

from jobs.broker import keys
from jobs.broker.times import as_text
from jobs.dashboard.format import word
from jobs.dashboard.navigation import address
from jobs.inspection.rows import Row
from jobs.inspection.sources import Found, Source, read
from jobs.job import JobState

DRAWN = 30  # jobs up to which they are drawn; more are a list
WIDE, HIGH, APART, ABOVE = 176, 40, 40, 12  # pixels of a box, and between boxes
SHOWN = 22  # characters of a name in a box
CULPRITS = (JobState.DEAD, JobState.CANCELLED, JobState.DISCARDED)


@dataclass(frozen=True, slots=True)
class Node:
    """A job in the drawing; its layer is below 0 for prerequisites, above 0 for dependents."""

    id: str
    layer: int
    name: str
    state: str
    is_culprit: bool = False
    note: str = ""  # beside the state


@dataclass(slots=True)
class Graph:
    """The jobs around one, and which of them waits for which."""

    nodes: list[Node] = field(default_factory=list)
    edges: list[tuple[str, str]] = field(default_factory=list)  # prerequisite, dependent
    critical: frozenset[str] = frozenset()  # jobs of the path that takes longest

    @property
    def culprits(self) -> list[Node]:
        return [node for node in self.nodes if node.is_culprit]


def around(
    client: Redis, queue: str, job: tuple[str, str, JobState | None], needed: Sequence[str], dependents: Sequence[str]
) -> Graph | None:
    """
    Return the jobs around a job (id, name, state), two layers deep; None for one without any. The prerequisites of a
    waiting or blocked job that ended badly are its culprits. Two round trips.
    """
    if not needed and not dependents:
        return None
    job_id, name, state = job
    layers = {job_id: 0} | dict.fromkeys(dependents, 1) | dict.fromkeys(needed, -1)
    edges = [(each, job_id) for each in needed] + [(job_id, each) for each in dependents]
    if len(layers) <= DRAWN:
        for other, linked in _links(client, needed, dependents).items():
            for each in linked:
                if each not in layers and len(layers) >= DRAWN:
                    continue
                edges.append((each, other) if layers[other] < 0 else (other, each))
                layers.setdefault(each, layers[other] * 2)
    rows = _rows(client, queue, [each for each in layers if each != job_id])
    is_stuck = state in (JobState.WAITING, JobState.BLOCKED)
    graph = Graph(edges=list(dict.fromkeys(edges)))
    for each, layer in layers.items():
        if each == job_id:
            graph.nodes.append(Node(each, 0, name, state.value if state else ""))
            continue
        row = rows[each]
        found = row.state if row else None
        is_culprit = is_stuck and layer < 0 and found in CULPRITS
        graph.nodes.append(Node(each, layer, row.command if row else each, found.value if found else "", is_culprit))
    return graph


def _links(client: Redis, needed: Sequence[str], dependents: Sequence[str]) -> Mapping[str, list[str]]:
    """Return the prerequisites of the prerequisites, and the dependents of the dependents."""
    with client.pipeline(transaction=False) as pipeline:
        for each in needed:
            pipeline.hget(keys.job(each), "prereqs")
        for each in dependents:
            pipeline.srandmember(keys.dependents(each), DRAWN)
            pipeline.srandmember(keys.followers(each), DRAWN)
        answers: Any = pipeline.execute(raise_on_error=False)
    linked = {}
    for each, answer in zip(needed, answers, strict=False):
        try:
            linked[each] = [str(other) for other in orjson.loads(answer or b"[]")]
        except (ValueError, TypeError):  # tampered with
            linked[each] = []
    pairs = answers[len(needed) :]
    for each, one, other in zip(dependents, pairs[::2], pairs[1::2], strict=True):
        found = [*(one if isinstance(one, list) else ()), *(other if isinstance(other, list) else ())]
        linked[each] = sorted(map(as_text, found))
    return linked


def _rows(client: Redis, queue: str, ids: Sequence[str]) -> dict[str, Row | None]:
    source = Source(client, "queue", queue)
    return dict(zip(ids, read([Found(each, 0.0, source) for each in ids]), strict=True))


# --- the drawing -----------------------------------------------------------------------------


def drawing(request: HttpRequest, graph: Graph, most: int = DRAWN) -> SafeString | str:
    """Draw a graph of up to `most` jobs, each a link to its page; "" for a larger one."""
    if len(graph.nodes) > most:
        return ""
    layers = sorted({node.layer for node in graph.nodes})
    columns = [[node for node in graph.nodes if node.layer == layer] for layer in layers]
    rows = max(map(len, columns))
    places = {
        node.id: (at * (WIDE + APART), ((rows - len(column)) / 2 + row) * (HIGH + ABOVE))
        for at, column in enumerate(columns)
        for row, node in enumerate(column)
    }
    lines = format_html_join(
        "",
        '<path class="jobs-edge{}" d="{}"/>',
        (
            (" is-critical" if {one, other} <= graph.critical else "", _curve(places[one], places[other]))
            for one, other in graph.edges
        ),
    )
    boxes = format_html_join("", "{}", ((_box(request, node, places[node.id]),) for node in graph.nodes))
    width, height = len(columns) * (WIDE + APART) - APART + 2, rows * (HIGH + ABOVE) - ABOVE + 2
    return format_html(
        '<svg class="jobs-graph" viewBox="-1 -1 {} {}" width="{}" height="{}"><title>{}</title>{}{}</svg>',
        *(width, height, width, height, _("Prerequisites on the left, dependents on the right"), lines, boxes),
    )


def _curve(one: tuple[float, float], other: tuple[float, float]) -> str:
    (x, y), (to_x, to_y) = (one[0] + WIDE, one[1] + HIGH / 2), (other[0], other[1] + HIGH / 2)
    return f"M{x:.0f} {y:.0f}C{x + APART / 2:.0f} {y:.0f} {to_x - APART / 2:.0f} {to_y:.0f} {to_x:.0f} {to_y:.0f}"


def _box(request: HttpRequest, node: Node, at: tuple[float, float]) -> SafeString:
    name = node.name if len(node.name) <= SHOWN else f"…{node.name[-SHOWN + 1 :]}"
    state = word(node.state) if node.state else _("no record")
    told = _("%(state)s: blocks this job") % {"state": state} if node.is_culprit else state
    told = f"{told}, {node.note}" if node.note else told
    kinds = f"jobs-node jobs-state-{node.state}{' is-here' if not node.layer else ''}"
    shape = format_html(
        '<g class="{}{}" transform="translate({} {})"><title>{}</title><rect width="{}" height="{}" rx="6"/>'
        '<text x="10" y="17">{}</text><text class="jobs-node-state" x="10" y="32">{}</text></g>',
        *(kinds, " is-culprit" if node.is_culprit else "", f"{at[0]:.0f}", f"{at[1]:.0f}", f"{node.name} {node.id}"),
        *(WIDE, HIGH, name, told),
    )
    if not node.layer:
        return shape
    return format_html('<a href="{}">{}</a>', address(request, "jobs_job", node.id), shape)
