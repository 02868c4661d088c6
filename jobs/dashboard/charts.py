"""
Charts as inline SVG, without inline styles: trends, bars with axes, meters. Each has a title; the page has the same
numbers as text or in a table.

Widths are in percent and heights in pixels, so that a chart fills its card and its texts keep their size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import ceil, log10

from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from jobs.broker.times import DAY, HOUR, MINUTE, moment
from jobs.dashboard.format import clock

TICKS = 6  # along a time axis, at most
LAST = 0.88  # of the axis, from which on a tick would not fit
APART = 10 * MINUTE, 4 * HOUR, DAY, 3 * DAY  # seconds between two ticks
SMALL = 120, 24  # the coordinates of a trend, which is stretched to its place
HIGH = 168.0  # pixels of the plot's bars; below them are the times
TOP = 14.0  # pixels above the highest line, for the marks' texts


@dataclass(frozen=True, slots=True)
class Bar:
    """One time step: the value of each kind, from the bottom up, its label, and a tick for the axis, "" for none."""

    label: str
    parts: Sequence[tuple[str, float]]  # CSS class and value
    tick: str = ""

    @property
    def total(self) -> float:
        return sum(value for _, value in self.parts)


def trend(title: str, values: Sequence[float], tone: str = "") -> SafeString:
    """Draw values over time as a line with the area below it filled; `tone`: good, busy, warn or bad."""
    width, height = SMALL
    most = max(values, default=0) or 1
    step = width / max(1, len(values) - 1)
    points = " ".join(
        f"{at * step:.1f},{height - 1 - value / most * (height - 3):.1f}" for at, value in enumerate(values)
    )
    return format_html(
        '<svg class="jobs-trend {}" viewBox="0 0 {} {}" role="img" preserveAspectRatio="none"><title>{}</title>'
        '<polygon points="0,{} {} {},{}"/><polyline points="{}"/></svg>',
        *(f"is-{tone}" if tone else "", width, height, title, height, points, width, height, points),
    )


def plot(title: str, steps: Sequence[Bar], unit: str = "", marks: Sequence[tuple[int, str]] = ()) -> SafeString:
    """
    Draw one stacked bar for each step, with its label as title, over a time axis; numbered lines show the scale.
    `marks` are the index of a step and a short text, such as a deploy.
    """
    lines = scale(max((step.total for step in steps), default=0))
    width = 100 / max(1, len(steps))
    numbers = format_html_join(
        "",
        '<text x="100%" y="{}" text-anchor="end">{}</text>',
        ((_Number(_height(line, lines[-1]) + 4), f"{line:,g}{unit if line else ''}") for line in lines),
    )
    grid = format_html_join(
        "", '<line x1="0" x2="100%" y1="{0}" y2="{0}"/>', ((_Number(_height(line, lines[-1])),) for line in lines)
    )
    bars = format_html_join(
        "",
        '<rect class="{}" x="{}%" y="{}" width="{}%" height="{}"><title>{}</title></rect>',
        (
            (kind, *map(_Number, (at * width, y, width * 0.86, height)), steps[at].label)
            for at, kind, y, height in _placed(steps, lines[-1])
        ),
    )
    ticks = format_html_join(
        "",
        '<text x="{}%" y="186">{}</text>',
        ((_Number(at * width), step.tick) for at, step in enumerate(steps) if step.tick),
    )
    marked = format_html_join(
        "",
        '<line class="jobs-mark" x1="{0}%" x2="{0}%" y1="4" y2="168"/>'
        '<text class="jobs-mark" x="{0}%" dx="{1}" y="11" text-anchor="{2}">{3}</text>',
        ((_Number(at * width), *((4, "start") if at < len(steps) / 2 else (-4, "end")), text) for at, text in marks),
    )
    return format_html(
        '<div class="jobs-plot"><svg aria-hidden="true">{}</svg><svg role="img"><title>{}</title>{}{}{}{}</svg></div>',
        *(numbers, title, grid, bars, ticks, marked),
    )


def ticks(starts: Sequence[int]) -> list[str]:
    """Return the text below each step of a time axis, by their starts (seconds since the epoch): round times, few."""
    if len(starts) < 2:
        return [clock(start, "H:i") for start in starts]
    step = starts[1] - starts[0]
    apart = next((each for each in APART if each * TICKS >= len(starts) * step), APART[-1])
    form = "H:i" if apart < DAY else "d M"
    return [
        clock(start, form) if _is_round(start, step, apart) and at < LAST * len(starts) else ""
        for at, start in enumerate(starts)
    ]


def _is_round(start: int, step: int, apart: int) -> bool:
    """Whether a step of that many seconds has a multiple of `apart` in it, by the user's clock."""
    offset = timezone.localtime(moment(start)).utcoffset() or timedelta()
    return (start + int(offset.total_seconds())) % apart < step


def meter(title: str, value: float, most: float) -> SafeString:
    """Draw a value as a part of `most`: full, and in the tone of a warning, above it."""
    part = min(1.0, value / most) if most > 0 else 1.0
    return format_html(
        '<svg class="jobs-meter {}" role="img"><title>{}</title><rect width="100%" height="100%" rx="2.5"/>'
        '<rect width="{}%" height="100%" rx="2.5"/></svg>',
        *("is-warn" if value > most else "", title, _Number(max(4.0, part * 100))),
    )


def lane(kind: str, start: float, width: float) -> SafeString:
    """Draw one bar of a timeline, from `start` on, both in percent. The text beside it says the same."""
    return format_html(
        '<svg class="jobs-lane" aria-hidden="true"><rect class="{}" x="{}%" width="{}%" height="100%" rx="2"/></svg>',
        *(kind, _Number(start), _Number(width)),
    )


def scale(most: float) -> list[float]:
    """Return the values of the numbered lines: 0, and two to five round ones, the last at or above `most`."""
    if most <= 0:
        return [0.0, 1.0]
    rough = most / 4
    size = 10.0 ** int(log10(rough) // 1)
    step = next(size * each for each in (1, 2, 2.5, 5, 10) if size * each >= rough)
    step = max(1.0, step) if most >= 2 else step
    return [step * at for at in range(ceil(most / step) + 1)]


def _height(value: float, most: float) -> float:
    return HIGH - value / most * (HIGH - TOP)


def _placed(steps: Sequence[Bar], most: float) -> Iterator[tuple[int, str, float, float]]:
    """Yield for each part above 0: the index of its step, its class, its top and its height."""
    for at, step in enumerate(steps):
        bottom = 0.0
        for kind, value in step.parts:
            if value:
                top = _height(bottom + value, most)
                yield at, kind, top, max(1.0, _height(bottom, most) - top)
            bottom += value


class _Number(float):
    """A number that `format_html` can format: it converts other arguments to escaped text first."""

    def __html__(self) -> str:
        return f"{self:.2f}".rstrip("0").rstrip(".")
