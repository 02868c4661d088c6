"""Charts as inline SVG, made here: bars over time, with a title; the numbers stand in a table beside them."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

WIDTH, HEIGHT, GAP = 720, 96, 1


@dataclass(frozen=True, slots=True)
class Bar:
    """One step of time: how much of each kind, the lowest first, and what a reader is told of it."""

    label: str
    parts: Sequence[tuple[str, float]]  # CSS class and value

    @property
    def total(self) -> float:
        return sum(value for _, value in self.parts)


def bars(title: str, steps: Sequence[Bar]) -> SafeString:
    """A bar a step, its parts stacked. The highest bar fills the height."""
    most = max((step.total for step in steps), default=0) or 1
    width = WIDTH / max(1, len(steps))
    drawn = []
    for at, step in enumerate(steps):
        bottom = float(HEIGHT)
        for kind, value in step.parts:
            height = value / most * (HEIGHT - 2)
            bottom -= height
            if value:
                drawn.append((kind, at * width, bottom, max(1.0, width - GAP), height, step.label))
    shapes = format_html_join(
        "",
        '<rect class="{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>',
        ((kind, *map(_Number, numbers), label) for kind, *numbers, label in drawn),
    )
    return format_html(
        '<svg class="jobs-chart" viewBox="0 0 {} {}" role="img" preserveAspectRatio="none"><title>{}</title>{}</svg>',
        *(WIDTH, HEIGHT, title, shapes),
    )


class _Number(float):
    """`format_html` escapes its arguments to text first; a number must stay one to be formatted."""

    def __html__(self) -> str:
        return f"{self:.1f}"
