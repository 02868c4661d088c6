"""
The program in which an exercise's checks run: it calls the learner's code, in another process, through a pipe.

It reads the checks from stdin and reports on stdout. The checks see two names: `solution`, the learner's module, whose
functions take and return plain values; and `expect`, which calls one and compares the outcome.
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
MESSAGE = 5_000  # characters of a check's message
ANYTHING = object()
# The answers of the learner's process, with the number of their parts. A forged answer is just another wrong answer.
# Each request has a random number that its answer repeats: no answer can be written before its request.
ANSWERS = {"value": 3, "function": 1, "missing": 1, "raised": 4, "odd": 3, "syntax": 2}


class Ended(BaseException):
    """Raised when the learner's process no longer answers."""


class Unusable(BaseException):
    """Raised when the learner's code cannot be called; the message is the reason."""


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
        """Send a request. Raises Ended or Unusable, and again at each later request: a check may catch the first."""
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
                raise Unusable("The program answered without a request.")
            if ANSWERS[reply[0]] == len(reply):
                return tuple(reply)
        except (LookupError, TypeError, ValueError, SyntaxError, MemoryError, RecursionError):
            pass
        raise Unusable("The program's answer cannot be read.")

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
    """Call the function. AssertionError, with the actual outcome, unless it returns, prints or raises as expected."""
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
    """Return the checks, in their order. Broken checks are reported, and end the program."""
    names: dict[str, Any] = {"solution": SOLUTION, "expect": expect, "__name__": "checks"}
    try:
        exec(compile(checks, "checks", "exec"), names)  # noqa: S102
        loaded = [each for name, each in names.items() if name.startswith("check_") and callable(each)]
        if not 0 < len(loaded) <= MOST_CHECKS:
            raise ValueError(f"There are {len(loaded)} functions check_...; 1 to {MOST_CHECKS} are needed.")
    except Exception as error:
        report("broken", f"{type(error).__name__}: {error}")
        program.leave()
    return loaded


def title(check: Callable[[], None]) -> str:
    """Return the first line of the check's docstring, or its name."""
    first = (check.__doc__ or "").strip().partition("\n")[0]
    return (first or check.__name__.removeprefix("check_").replace("_", " "))[:100]


def run(check: Callable[[], None]) -> tuple[str, str]:
    kind, *about = SOLUTION._ask("load")  # each check gets freshly loaded code
    if kind != "value":
        raise Unusable(f"Syntax error in {about[0]}." if kind == "syntax" else f"The program stops: {about[1]}.")
    try:
        check()
        SOLUTION._ask("still")  # a process that ended after its last answer, or wrote another answer, has not passed
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
    loaded = load(source)
    # Sent before any of the learner's code runs, so it is not forged.
    kind, *about = ast.literal_eval(replies.readline().decode() or "('unconfined', 'it did not start')")
    if kind != "ready":
        report(kind, *about)
        program.leave()
    report("checks", [title(check) for check in loaded])
    for check in loaded:
        try:
            report(*run(check))
        except Ended:
            report("ended")
            break
        except Unusable as error:
            report("unusable", str(error))
            break
    program.leave()
