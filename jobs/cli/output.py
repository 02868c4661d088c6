"""Output of the sub-commands: tables and progress bars on a terminal, plain lines elsewhere, JSON with --json."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from difflib import get_close_matches
from importlib.util import find_spec
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import orjson
from django.core.management.base import CommandError, OutputWrapper
from django.utils import timezone

from jobs.errors import MissingExtraError
from jobs.record import display

if TYPE_CHECKING:
    from rich.table import Table

LONGEST = 60  # characters of a text in a table; longer ones are cut
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tabs and new lines
BARS = "▁▂▃▄▅▆▇█"
WIDE = 1_000  # columns; a long line wrapped by the terminal reads better than a cut table


class Output:
    """The output of a sub-command. Only the answer goes to stdout."""

    def __init__(self, stdout: OutputWrapper, stderr: OutputWrapper, *, as_json: bool) -> None:
        self.as_json = as_json
        self.is_piped = not stdout.isatty()
        self.is_terminal = not self.is_piped and not as_json  # and tables are drawn
        self._stdout, self._stderr = stdout, stderr
        bear_any_text(stdout)
        if self.is_terminal and not find_spec("rich"):
            self.is_terminal = False
            self.complain(str(MissingExtraError("A table on a terminal", "rich", "cli")))

    def console(self, width: int | None = None) -> Any:
        """Return rich's Console of the terminal."""
        from rich.console import Console

        terminal: Any = self._stdout._out  # Django's wrapper ends every write with a new line
        return Console(file=terminal, highlight=False, width=width)

    def json(self, answer: Any) -> None:
        """Write the answer as one line of JSON."""
        self._stdout.write(json_line(answer, self._stdout))

    def say(self, sentence: str) -> None:
        """Write a line of the answer as text."""
        self._stdout.write(harmless(sentence))

    def complain(self, sentence: str) -> None:
        """Write a refusal to stderr."""
        self._stderr.write(harmless(sentence))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, header: bool = True) -> None:
        """
        Write a table on a terminal; elsewhere write each row as it comes, as a line of tab-separated fields. Without
        `header`, piped output has no line of column names.
        """
        if self.is_terminal:
            self.console(WIDE).print(made_table(columns, rows))
            return
        rows = iter(rows)
        first = list(islice(rows, 1))  # read before the header is written: if it raises, only the error is shown
        if header or not self.is_piped:
            self.say("\t".join(columns))
        for row in chain(first, rows):
            self.say("\t".join(" ".join(_text(value).split()) for value in row))

    def progress(self, work: Sequence[Any], label: str) -> Iterable[Any]:
        """Return `work`, with a progress bar on a terminal if it has more than one item."""
        if not sys.stderr.isatty() or len(work) < 2 or not find_spec("rich"):
            return work
        from rich.console import Console
        from rich.progress import track

        return track(work, label, console=Console(stderr=True), transient=True)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask for confirmation. CommandError if the answer is no, or if stdin is not a terminal."""
        if yes:
            return
        if not sys.stdin.isatty():
            raise CommandError(f"{question} Cannot ask without a terminal: pass --yes.")
        self._stderr.write(f"{question} [y/N] ", ending="")
        self._stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing was changed.")


def bear_any_text(stdout: OutputWrapper) -> None:
    """Write characters that the encoding of the output lacks as escapes, instead of failing on them."""
    stream: Any = stdout._out
    if hasattr(stream, "reconfigure") and stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")


def json_line(answer: Any, stdout: OutputWrapper) -> str:
    """Encode the answer as one line of JSON, in ASCII if the output is not UTF-8."""
    text = orjson.dumps(answer, option=orjson.OPT_NON_STR_KEYS).decode()
    is_utf8 = (getattr(stdout._out, "encoding", None) or "utf-8").lower().startswith("utf")
    return text if is_utf8 else json.dumps(orjson.loads(text))


def made_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> "Table":
    """Return a table for a terminal: numbers right-aligned, long texts cut, no wrapping, so that ids can be copied."""
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, column in enumerate(columns):
        numbers = bool(rows) and all(isinstance(row[number], int | float) for row in rows)
        table.add_column(column, no_wrap=True, justify="right" if numbers else "left")
    for row in rows:
        table.add_row(*(Text(_cut(harmless(" ".join(_text(value).split())))) for value in row))
    return table


def counted(number: int, noun: str) -> str:
    """Return the number with its noun: "1 job", "2,000 jobs"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean ...?" with the most similar of the known names, "" if none is similar."""
    names = list(known)
    same = [each for each in names if each.rpartition(".")[2].lower() == name.rpartition(".")[2].lower()]
    meant = same[:1] or get_close_matches(name, names, 1)
    return f" Did you mean {meant[0]!r}?" if meant else ""


def sparkline(values: Sequence[int]) -> str:
    """Return a character for each value, the height of which is its share of the largest; a space for 0."""
    top = max(values, default=0)
    return "".join(BARS[(value * len(BARS) - 1) // top] if value > 0 else " " for value in values)


def harmless(text: str) -> str:
    """Replace control characters, those of direction by marks: a text from a job must not control the terminal."""
    return display.marked(_CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{timezone.localtime(value):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if type(value) is int else str("" if value is None else value)


Deed = Callable[[Output, dict[str, Any]], int]  # a sub-command; it returns the exit code
