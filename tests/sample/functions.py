"""Plain functions that jobs may call, and things beside them that they may not."""

import os  # noqa: F401
from os import system  # noqa: F401

from tests.sample.models import Note


def add(left: int, right: int) -> int:
    return left + right


def write_note(text: str) -> int:
    return Note.objects.create(text=text).pk


class Counter:
    def grow(self) -> None:
        pass
