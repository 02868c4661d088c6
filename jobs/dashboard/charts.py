"""Charts as inline SVG: bars over time, with a title. The page has the same numbers in a table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

WIDTH, HEIGHT, GAP = 720, 96, 1
SMALL = 180, 24  # width and height of a sparkline in a table row


@dataclass(frozen=True, slots=True)
class Bar:
    """One time step: the value of each kind, from the bottom up, and its label."""

    label: str
    parts: Sequence[tuple[str, float]]  # CSS class and value

    @property
    def total(self) -> float:
        return sum(value for _, value in self.parts)


def bars(title: str, steps: Sequence[Bar]) -> SafeString:
    """Draw one stacked bar for each step, with its label as title. The highest bar fills the height."""
    drawn = (
        (kind, *map(_Number, place), format_html("<title>{}</title>", steps[at].label))
        for at, kind, place in _placed(steps, (WIDTH, HEIGHT))
    )
    shapes = format_html_join("", '<rect class="{}" x="{}" y="{}" width="{}" height="{}">{}</rect>', drawn)
    return _svg(title, shapes, (WIDTH, HEIGHT))


def sparkline(title: str, steps: Sequence[Bar]) -> SafeString:
    """Draw the bars at the size of a table row, one shape for each kind. The title describes the chart."""
    outlines: dict[str, list[str]] = {}
    for _, kind, (x, y, width, height) in _placed(steps, SMALL):
        outlines.setdefault(kind, []).append(f"M{x:.1f} {y:.1f}h{width:.1f}v{height:.1f}h-{width:.1f}z")
    shapes = format_html_join(
        "", '<path class="{}" d="{}"/>', ((kind, "".join(outline)) for kind, outline in outlines.items())
    )
    return _svg(title, shapes, SMALL, "jobs-spark")


def _placed(
    steps: Sequence[Bar], size: tuple[int, int]
) -> Iterator[tuple[int, str, tuple[float, float, float, float]]]:
    """Yield for each part above 0: the index of its step, its class, and x, y, width and height."""
    most = max((step.total for step in steps), default=0) or 1
    width = size[0] / max(1, len(steps))
    for at, step in enumerate(steps):
        bottom = float(size[1])
        for kind, value in step.parts:
            height = value / most * (size[1] - 2)
            bottom -= height
            if value:
                yield at, kind, (at * width, bottom, max(1.0, width - GAP), height)


def _svg(title: str, shapes: SafeString, size: tuple[int, int], kind: str = "") -> SafeString:
    return format_html(
        '<svg class="jobs-chart {}" viewBox="0 0 {} {}" role="img" preserveAspectRatio="none">'
        "<title>{}</title>{}</svg>",
        *(kind, *size, title, shapes),
    )


class _Number(float):
    """A number that `format_html` can format: it converts other arguments to escaped text first."""

    def __html__(self) -> str:
        return f"{self:.1f}"
