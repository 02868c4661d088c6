"""Type checkers see the command's own fields in `run`, `defer` and `using`."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

SAMPLE = """
from collections.abc import AsyncIterator
from datetime import timedelta
from django.db.models import QuerySet
from jobs import Mandate, MandateJob
from tests.sample.models import Note


class Greet(Mandate):
    queue = "mailers"
    user_id: int
    greeting: str = "hello"

    def call(self) -> str:
        return self.greeting


class Fetch(Mandate):
    url: str

    async def call(self) -> bytes:
        return b""


class Again(Greet):
    times: int = 1


class Visit(Mandate):
    async def call(self) -> None:
        for number in self.each([1, 2]):
            text: str = number  # refused: assignment
        async for line in self.each(self.lines()):
            number = line  # refused: assignment
        async for note in self.each(self.notes(), by="pk"):
            number = note  # refused: assignment
        for note in self.each(self.notes()):
            number = note  # refused: assignment
        self.each(self.notes(), self.visit)
        self.each(self.lines(), self.visit)  # refused: call-overload

    def notes(self) -> QuerySet[Note]:
        raise NotImplementedError

    async def lines(self) -> AsyncIterator[str]:
        yield ""

    def visit(self, note: Note) -> None: ...


text: str = Greet.run(7)
number: int = Greet.run(7)  # refused: assignment
data: bytes = Fetch.run("x")
job: MandateJob = Greet.defer(7, greeting="hi")
greeted: MandateJob[str] = Greet.defer(7)
text = greeted.wait(5)
data = Fetch.defer("x").wait()
data = Fetch.using(queue="low").defer("x").wait()
wrong: MandateJob[int] = Greet.defer(7)  # refused: assignment
number = Greet.defer(7).wait()  # refused: assignment
Greet.defer(7, wait=5)
Greet.defer(7, wait=timedelta(minutes=5), queue="low")
Greet.using(queue="low", wait=60).defer(7, greeting="hi")
Again.run(7, "hi", 3)
Greet.run("seven")  # refused: arg-type
Greet.run()  # refused: call-arg
Greet.run(7, greetin="x")  # refused: call-arg
Greet.defer("seven")  # refused: call-overload
Greet.defer()  # refused: call-overload
Greet.using(queue="low").defer("seven")  # refused: arg-type
Greet.using(queue=7)  # refused: arg-type
Again.run(7, "hi", "three")  # refused: arg-type
"""


def test_a_type_checker_sees_the_fields(tmp_path):
    sample = tmp_path / "sample.py"
    sample.write_text(SAMPLE)
    found = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", str(sample)],
        cwd=ROOT,
        env=os.environ | {"DEBUG": "1", "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    refused = {
        number: line.rpartition("refused: ")[2]
        for number, line in enumerate(SAMPLE.splitlines(), start=1)
        if "refused: " in line
    }
    errors = dict(re.findall(r"sample\.py:(\d+): error: .*\[([\w-]+)\]", found.stdout))
    assert {int(number): code for number, code in errors.items()} == refused, found.stdout + found.stderr
