"""Charts as inline SVG, made here: bars over time, with a title; the numbers stand in a table beside them."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

WIDTH, HEIGHT, GAP = 720, 96, 1
SMALL = 180, 24  # width and height of one in a row


@dataclass(frozen=True, slots=True)
class Bar:
    """One step of time: how much of each kind, the lowest first, and what a reader is told of it."""

    label: str
    parts: Sequence[tuple[str, float]]  # CSS class and value

    @property
    def total(self) -> float:
        return sum(value for _, value in self.parts)


def bars(title: str, steps: Sequence[Bar], size: tuple[int, int] = (WIDTH, HEIGHT), kind: str = "") -> SafeString:
    """A bar a step, its parts stacked. The highest bar fills the height."""
    most = max((step.total for step in steps), default=0) or 1
    width = size[0] / max(1, len(steps))
    drawn = []
    for at, step in enumerate(steps):
        bottom = float(size[1])
        for part, value in step.parts:
            height = value / most * (size[1] - 2)
            bottom -= height
            if value:
                told = format_html("<title>{}</title>", step.label) if step.label else ""
                drawn.append((part, *map(_Number, (at * width, bottom, max(1.0, width - GAP), height)), told))
    shapes = format_html_join("", '<rect class="{}" x="{}" y="{}" width="{}" height="{}">{}</rect>', drawn)
    return format_html(
        '<svg class="jobs-chart {}" viewBox="0 0 {} {}" role="img" preserveAspectRatio="none">'
        "<title>{}</title>{}</svg>",
        *(kind, *size, title, shapes),
    )


def sparkline(title: str, steps: Sequence[Bar]) -> SafeString:
    """The same, as small as a word in a row of a table. The title says what there is to see."""
    return bars(title, steps, SMALL, "jobs-spark")


class _Number(float):
    """`format_html` escapes its arguments to text first; a number must stay one to be formatted."""

    def __html__(self) -> str:
        return f"{self:.1f}"
