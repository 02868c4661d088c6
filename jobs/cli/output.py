"""Telling somebody: tables and bars on a terminal, plain lines elsewhere, JSON where it is asked for."""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import chain, islice
from typing import Any

import orjson
from django.core.management.base import CommandError, OutputWrapper
from django.utils import timezone
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

LONGEST = 60  # characters of a text in a table
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tabs and new lines
WIDE = 1_000  # columns: a terminal breaks a long line better than a table is cut


class Output:
    """Where a sub-command tells what it found or did. Nothing but its answer goes to stdout."""

    def __init__(self, stdout: OutputWrapper, stderr: OutputWrapper, *, as_json: bool) -> None:
        self.as_json = as_json
        self.is_terminal = stdout.isatty() and not as_json
        terminal: Any = stdout._out  # Django's wrapper ends every write with a new line
        self.console = Console(file=terminal, highlight=False)
        self._wide = Console(file=terminal, highlight=False, width=WIDE)
        self._stdout, self._stderr = stdout, stderr

    def json(self, answer: Any) -> None:
        """The answer as one line."""
        self._stdout.write(orjson.dumps(answer, option=orjson.OPT_NON_STR_KEYS).decode())

    def say(self, sentence: str) -> None:
        """A line of the answer, for a person."""
        self._stdout.write(harmless(sentence))

    def complain(self, sentence: str) -> None:
        """What was refused."""
        self._stderr.write(harmless(sentence))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """A table on a terminal; elsewhere a line for each row, its fields separated by tabs, as they come."""
        if self.is_terminal:
            self._wide.print(made_table(columns, rows))
            return
        rows = iter(rows)
        first = list(islice(rows, 1))  # before the head: an error is to stand alone
        self.say("\t".join(columns))
        for row in chain(first, rows):
            self.say("\t".join(" ".join(_text(value).split()) for value in row))

    def progress(self, work: Sequence[Any], label: str) -> Iterable[Any]:
        """The same, with a bar on a terminal while it is worked off, unless it is done at once."""
        if not sys.stderr.isatty() or len(work) < 2:
            return work
        return track(work, label, console=Console(stderr=True), transient=True)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask before something is done. CommandError when the answer is no, or when nobody can be asked."""
        if yes:
            return
        if not sys.stdin.isatty():
            raise CommandError(f"{question} Nobody can be asked here: say --yes.")
        self._stderr.write(f"{question} [y/N] ", ending="")
        self._stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing was changed.")


def made_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table for a terminal: numbers to the right, long texts cut. It is as wide as it is: ids are copied from it."""
    rows = list(rows)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, column in enumerate(columns):
        numbers = bool(rows) and all(isinstance(row[number], int | float) for row in rows)
        table.add_column(column, no_wrap=True, justify="right" if numbers else "left")
    for row in rows:
        table.add_row(*(Text(_cut(harmless(" ".join(_text(value).split())))) for value in row))
    return table


def counted(number: int, noun: str) -> str:
    """Such as "1 job", "2,000 jobs"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def harmless(text: str) -> str:
    """Without the codes by which what a job said could steer a terminal."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{timezone.localtime(value):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if type(value) is int else str("" if value is None else value)


Deed = Callable[[Output, dict[str, Any]], int]  # a sub-command: it returns the exit code
