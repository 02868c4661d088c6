"""
The program in which an exercise's checks run: apart from the learner's code, which it asks through a pipe.

It reads the checks from stdin and reports on stdout. The checks see two names: `solution`, the learner's module, whose
functions take and return plain values; and `expect`, which calls one and says what came instead.
"""

import ast
import os
import sys
from collections.abc import Callable
from typing import Any

sys.path.insert(0, os.path.dirname(__file__))
import program  # type: ignore[import-not-found]

MOST_CHECKS = 100
SHOWN = 300  # characters of a value
MESSAGE = 5_000  # characters of what a check says
ANYTHING = object()
# What the learner's process may answer, with so many parts. It may be forged: then it is just another wrong answer.
# Each request has a number that nobody can guess, and its answer bears it: none can be written before it is asked for.
ANSWERS = {"value": 3, "function": 1, "missing": 1, "raised": 4, "odd": 3, "syntax": 2}


class Ended(BaseException):
    """Raised when the learner's process answers no more."""


class Unusable(BaseException):
    """Raised when the learner's code cannot be asked anything; the message says why."""


class Solution:
    """The learner's module: `solution.add(1, 2)`, `solution.NAME`."""

    def __init__(self, requests: int, replies: Any) -> None:
        self._requests, self._replies = requests, replies
        self._over: BaseException | None = None

    def __getattr__(self, name: str) -> Any:
        kind, *about = self._ask("get", name)
        if kind == "missing":
            raise AssertionError(f"There is no {name!r} in solution.py.")
        return Function(self, name) if kind == "function" else self._value(name, kind, about)

    def _ask(self, *request: Any) -> tuple[Any, ...]:
        """Raises Ended or Unusable; then so does whatever is asked later, though a check may have caught the first."""
        if not self._over:
            try:
                return self._answer(os.urandom(8).hex(), request)
            except (Ended, Unusable) as over:
                self._over = over
        raise self._over

    def _answer(self, number: str, request: tuple[Any, ...]) -> tuple[Any, ...]:
        try:
            program.send(self._requests, (number, *request))
            line = self._replies.readline(program.LONGEST)
        except BrokenPipeError:
            line = b""
        if not line:
            raise Ended
        try:
            answered, *reply = ast.literal_eval(line.decode())
            if answered != number:
                raise Unusable("The program answered what it was not asked.")
            if ANSWERS[reply[0]] == len(reply):
                return tuple(reply)
        except (LookupError, TypeError, ValueError, SyntaxError, MemoryError, RecursionError):
            pass
        raise Unusable("What the program answered cannot be read.")

    def _value(self, call: str, kind: str, about: list[Any]) -> Any:
        if kind == "value":
            return about[0]
        if kind == "raised":
            raise AssertionError(f"{call} raised {about[1]}.")
        raise AssertionError(f"{call} gave {about[0] if about else 'nothing'}: a plain value was expected.")


class Function:
    """A function of the learner's."""

    def __init__(self, solution: Solution, name: str) -> None:
        self._solution, self._name = solution, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        kind, *about = self._solution._ask("call", self._name, args, kwargs)
        return self._solution._value(called(self, args), kind, about)


def called(function: Function, args: tuple[Any, ...]) -> str:
    return f"{function._name}({', '.join(map(shown, args))})"


def expect(
    function: Function, *args: Any, returns: Any = ANYTHING, prints: Any = ANYTHING, raises: type | None = None
) -> None:
    """Call the function; AssertionError, with what came instead, unless it returns, prints or raises as it should."""
    call = called(function, args)
    kind, *about = function._solution._ask("call", function._name, args, {})
    if raises is not None and kind == "raised" and about[0] == raises.__name__:
        return
    value = function._solution._value(call, kind, about)
    if raises is not None:
        raise AssertionError(f"{call} returned {shown(value)}; it should raise {raises.__name__}.")
    if returns is not ANYTHING and (value != returns or isinstance(value, bool) != isinstance(returns, bool)):
        raise AssertionError(f"{call} returned {shown(value)}; it should return {shown(returns)}.")
    if prints is not ANYTHING and str(about[1]).rstrip("\n") != prints.rstrip("\n"):
        raise AssertionError(f"{call} printed {shown(about[1])}; it should print {shown(prints)}.")


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def report(*message: Any) -> None:
    program.send(REPORT, message)


def load(checks: str) -> list[Callable[[], None]]:
    """The checks, in their order. Unusable checks are reported, and end the program."""
    names: dict[str, Any] = {"solution": SOLUTION, "expect": expect, "__name__": "checks"}
    try:
        exec(compile(checks, "checks", "exec"), names)  # noqa: S102
        found = [each for name, each in names.items() if name.startswith("check_") and callable(each)]
        if not 0 < len(found) <= MOST_CHECKS:
            raise ValueError(f"There are {len(found)} functions check_...; 1 to {MOST_CHECKS} are needed.")
    except Exception as error:
        report("broken", f"{type(error).__name__}: {error}")
        program.leave()
    return found


def title(check: Callable[[], None]) -> str:
    """Its docstring's first line, or its name."""
    first = (check.__doc__ or "").strip().partition("\n")[0]
    return (first or check.__name__.removeprefix("check_").replace("_", " "))[:100]


def run(check: Callable[[], None]) -> tuple[str, str]:
    kind, *about = SOLUTION._ask("load")  # each check finds the code as if it had just been started
    if kind != "value":
        raise Unusable(f"Syntax error in {about[0]}." if kind == "syntax" else f"The program stops: {about[1]}.")
    try:
        check()
        SOLUTION._ask("still")  # a process that ended after its last answer, or wrote another one, has not passed
    except AssertionError as error:
        return "failed", str(error)[:MESSAGE] or "That is not so."
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"[:MESSAGE]
    return "passed", ""


if __name__ == "__main__":
    source = sys.stdin.buffer.read().decode()
    requests, replies = int(sys.argv[7]), os.fdopen(int(sys.argv[8]), "rb")
    _, REPORT = program.begin("")
    SOLUTION = Solution(requests, replies)
    found = load(source)
    # Before any of the learner's code runs, so this one is not forged.
    kind, *about = ast.literal_eval(replies.readline().decode() or "('unconfined', 'it did not start')")
    if kind != "ready":
        report(kind, *about)
        program.leave()
    report("checks", [title(check) for check in found])
    for check in found:
        try:
            report(*run(check))
        except Ended:
            report("ended")
            break
        except Unusable as error:
            report("unusable", str(error))
            break
    program.leave()
