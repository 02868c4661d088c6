"""A traceback in parts: the project's own frames, which are marked, and those of libraries, which are folded."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import jobs

PACKAGE = Path(jobs.__file__).parent
FRAME = re.compile(r'^[ |+]*File "(?P<path>[^"\n]+)", line \d+')
INSIDE = re.compile(r"^[ |+]*(?:    |\[Previous line repeated)")  # source lines, marks and repetitions below a frame
LIBRARY = re.compile(r"[/\\](?:site|dist)-packages[/\\]|[/\\]lib[/\\]python3|^<frozen ", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive lines of one kind: `own`, `library` or `text`; of the first two the number of frames."""

    kind: str
    text: str
    frames: int = 0


def parts(traceback: str) -> list[Part]:
    """Return the parts of a traceback in order; together they are its whole text."""
    made = []
    for kind, blocks in groupby(_blocks(traceback), key=lambda block: block[0]):
        texts = [text for _kind, text in blocks]
        made.append(Part(kind, "".join(texts), 0 if kind == "text" else len(texts)))
    return made


def _blocks(traceback: str) -> Iterator[tuple[str, str]]:
    """Yield each frame with the lines below it, and every other line."""
    kind, block = "text", ""
    for line in traceback.splitlines(keepends=True):
        found = FRAME.match(line)
        if not found and kind != "text" and INSIDE.match(line):
            block += line
            continue
        if block:
            yield kind, block
        kind, block = (_kind(found["path"]) if found else "text"), line
    if block:
        yield kind, block


def _kind(path: str) -> str:
    """Return whether a file is the project's own. The traceback may come from another machine: its path decides."""
    below = re.split(r"[/\\]jobs[/\\]", path)[-1]
    is_ours = below != path and PACKAGE.joinpath(below).is_file() and not below.startswith("..")
    return "library" if is_ours or LIBRARY.search(path) else "own"
