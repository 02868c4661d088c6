"""
The program in which a learner's code runs. It only loads `solution.py` from its folder and answers calls. It does not
have the expected results, so the code can pass a check only with a right answer.
"""

import io
import os
import sys
from typing import Any

sys.path.insert(0, os.path.dirname(__file__))
import program  # type: ignore[import-not-found]

MAIN = "solution"
OWN = os.path.dirname(__file__)
PRINTED = 20_000  # characters kept of what a call prints; the rest is dropped
LITERALS = (bool, int, float, complex, str, bytes, type(None))
ENDLESS = (float("inf"), float("-inf"))


class Printed(io.TextIOBase):
    """The printed text, up to PRINTED characters."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        if len(self.text) < PRINTED:
            self.text += text[: PRINTED - len(self.text)]
        return len(text)


def answer(request: list[Any]) -> tuple[Any, ...]:
    """Answer a request: load the code, confirm that the process is alive, look up a name, or call a function."""
    sys.stdout = printed = Printed()
    kind, *about = request
    try:
        if kind == "load":
            return load() or ("value", None, printed.text)
        if kind == "still":
            return value(None, printed)
        member = getattr(sys.modules[MAIN], about[0], program)
        if kind == "get":
            if member is program:
                return ("missing",)
            return ("function",) if callable(member) else value(member, printed)
        return value(member(*about[1], **about[2]), printed)
    except BaseException as error:  # any exception, SystemExit too, is reported to the check
        return ("raised", type(error).__name__, described(error), printed.text)


def load() -> tuple[Any, ...] | None:
    """Import the learner's code, again if it was loaded before. Return the syntax error of any file, else None."""
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(FOLDER + os.sep):
            del sys.modules[name]
    for path in sorted(os.listdir(FOLDER)):
        if path.endswith(".py"):
            with open(os.path.join(FOLDER, path), "rb") as file:
                source = file.read()
            try:
                compile(source, path, "exec")
            except SyntaxError as error:
                return ("syntax", f"{path}, line {error.lineno or 1}: {error.msg}")
            except ValueError as error:
                return ("syntax", f"{path}: {error}")
    __import__(MAIN)
    return None


def value(result: Any, printed: Printed) -> tuple[Any, ...]:
    return ("value", result, printed.text) if is_literal(result) else ("odd", type(result).__name__, printed.text)


def is_literal(value: Any) -> bool:
    """Return whether the value survives the transfer unchanged; values of the learner's own classes do not."""
    kind = type(value)
    if kind in LITERALS:
        return value == value and value not in ENDLESS
    if kind in (list, tuple, set):
        return all(map(is_literal, value))
    return kind is dict and all(is_literal(key) and is_literal(item) for key, item in value.items())


def described(error: BaseException) -> str:
    """Describe an error in one line, with the line of the learner's code that raised it."""
    if isinstance(error, MemoryError):
        return f"MemoryError: more than {MEMORY >> 20} MB were needed"
    place, trace = "", error.__traceback__
    while trace:
        file = trace.tb_frame.f_code.co_filename
        if file.startswith(FOLDER + os.sep):
            place = f" ({file[len(FOLDER) + 1 :]}, line {trace.tb_lineno})"
        trace = trace.tb_next
    try:
        text = str(error)[:1_000]
    except BaseException:
        text = ""
    return f"{type(error).__name__}{': ' if text else ''}{text}{place}"


if __name__ == "__main__":
    FOLDER, MEMORY = os.getcwd(), int(sys.argv[4])
    requests, replies = program.begin(FOLDER)
    sys.path.insert(0, FOLDER)
    sys.stderr = Printed()
    for name, module in list(sys.modules.items()):
        if name != "__main__" and (getattr(module, "__file__", None) or "").startswith(OWN + os.sep):
            del sys.modules[name]  # the learner's files may have these names
    program.send(replies, ("ready",))
    for line in requests:
        # Trusted: the checker runs none of the learner's code.
        number, *request = eval(line, {"set": set})  # noqa: S307
        reply = answer(request)
        try:
            program.send(replies, (number, *reply))
        except (ValueError, RecursionError, MemoryError):
            program.send(replies, (number, "odd", "too much at once", ""))
