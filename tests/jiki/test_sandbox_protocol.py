"""Learners' code that speaks to the checks behind the back of the program that runs it: it passes nothing by that."""

import pytest

from jiki import sandbox
from jiki.sandbox import Report, Result
from tests.jiki.conftest import CHECKS, RIGHT

NOT_ASKED = "The program answered without a request."
UNREADABLE = "The program's answer cannot be read."
CLOSED = "It closed its connection to the checks."

# What the program itself would answer, if the code were right; `say` finds the pipe by itself.
RIGHT_ANSWERS = [
    "('value', None, '')",
    "('function',)",
    "('value', 3, '')",
    "('value', None, '')",
    "('function',)",
    "('value', 'ab', '')",
]
TOOLS = """
import os, signal, sys, time

def say(*lines):
    for end in range(3, 64):
        try:
            os.write(end, "".join(line + "\\n" for line in lines).encode())
        except OSError:
            pass

def numbered(answer):  # with the number of the present request, if there are any
    frame = sys._getframe(1)
    while frame.f_back:
        frame = frame.f_back
    number = frame.f_globals.get("number")
    return f"({number!r}, {answer[1:]}" if number else answer

def right(a, b):
    return numbered(f"('value', {a + b!r}, '')")
"""


@pytest.fixture(autouse=True)
def only_confined(settings):
    settings.SUBMISSION_SANDBOX = "confined"
    try:
        sandbox.check({"solution.py": ""}, CHECKS)
    except sandbox.SandboxError as error:
        pytest.skip(str(error))


def check(code, checks=CHECKS):
    return sandbox.check({"solution.py": TOOLS + code}, checks)


@pytest.mark.parametrize(
    "then",
    [
        "os._exit(0)",
        "os.closerange(0, 64)",
        "def add(a, b): return 0",
        "while True: pass",
        "import ctypes; ctypes.string_at(0)",
        "os.write(1, b'x'); 1 / 0",
    ],
)
def test_right_answers_that_are_written_ahead_pass_nothing(then):
    report = check(f"say(*{RIGHT_ANSWERS!r})\n{then}")

    assert report == Report(message=NOT_ASKED)


@pytest.mark.parametrize(
    ("then", "message"),
    [
        ("os._exit(0)", "It exited with code 0 before it had answered."),
        ("import ctypes; ctypes.string_at(0)", "It crashed (SIGSEGV)."),
        ("while True: pass", "It computed for more than 1 seconds: perhaps a loop that never ends."),
        ("os.closerange(0, 64); time.sleep(60)", CLOSED),
    ],
)
@pytest.mark.parametrize("checks", [CHECKS, CHECKS.partition("def check_texts")[0]], ids=["two checks", "one check"])
def test_who_answers_right_and_ends_has_not_passed(checks, then, message):
    report = check(f"def add(a, b):\n    say(right(a, b))\n    {then}", checks)

    assert [result.passed for result in report.results] == [False] * checks.count("def ")
    assert report.results[0].message == message


@pytest.mark.parametrize("checks", [CHECKS, CHECKS.partition("def check_texts")[0]], ids=["two checks", "one check"])
def test_who_answers_twice_has_not_passed(checks):
    assert check("def add(a, b):\n    say(right(a, b))\n    return a + b", checks) == Report(message=NOT_ASKED)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("numbered('()')", UNREADABLE),
        ("numbered('(3,)')", UNREADABLE),
        ("numbered(\"('value', 3)\")", UNREADABLE),
        ("numbered(\"('passed', '')\")", UNREADABLE),
        ("numbered(\"('ready',)\")", UNREADABLE),
        ("'(' * 50_000", UNREADABLE),
        ("'-' * 50_000 + '1'", UNREADABLE),
        ("'x' * 50_000", UNREADABLE),
        ("'9' * 50_000", UNREADABLE),
        ("'\\0'", UNREADABLE),
        ("''", UNREADABLE),
        ("'{[]: 1}'", UNREADABLE),
        ("'[' + '0,' * 20_000 + ']'", NOT_ASKED),
        ("\"('value', 3, '')\"", NOT_ASKED),
        ("\"('0123456789abcdef', 'value', 3, '')\"", NOT_ASKED),
        ("\"(None, 'value', 3, '')\"", NOT_ASKED),
        ("\"('ended',)\"", NOT_ASKED),
    ],
)
def test_what_is_no_answer_ends_the_check(answer, message):
    assert check(f"def add(a, b):\n    say({answer})\n    return a + b") == Report(message=message)


def test_a_timer_of_the_code_answers_nothing():
    code = (
        "signal.signal(signal.SIGVTALRM, lambda *_: say(*['(None,)'] * 9))\n"
        "signal.setitimer(signal.ITIMER_VIRTUAL, 0.001)\n"
        "def add(a, b):\n    sum(range(2_000_000))\n    return a + b"
    )

    assert check(code) == Report(message=NOT_ASKED)


def test_a_check_that_catches_everything_does_not_pass_what_has_ended():
    checks = "def check_all():\n    try: solution.add(1, 2)\n    except BaseException: pass"

    assert not check("def add(a, b): os._exit(0)", checks).passed
    assert check("def add(a, b): say('x'); return 1", checks) == Report(message=UNREADABLE)
    assert check("def add(a, b): return 1", checks).passed


@pytest.mark.parametrize(
    "code",
    [
        "sys.modules['__main__'].answer = lambda request: ('value', 3, '')",
        "sys.modules['__main__'].value = lambda *_: ('value', 3, '')",
        "import builtins\nbuiltins.eval = lambda *_: ['', 'still']",
        "import builtins\nbuiltins.repr = lambda *_: \"('value', 3, '')\"",
        "import gc\n[setattr(o, 'x', 1) for o in gc.get_objects() if isinstance(o, type(say))]",
        "sys.setprofile(lambda *_: say('x'))",
        "import atexit\natexit.register(say, *['x'] * 9)\nadd = sys.exit",
        "os.set_blocking(3, False); os.set_blocking(4, False)\ndef add(a, b): return 0",
        "os.dup2(3, 4)\ndef add(a, b): return a + b",
        "os.dup2(4, 3)\ndef add(a, b): return a + b",
        "os.close(3)\ndef add(a, b): return a + b",
    ],
)
def test_who_changes_the_program_around_it_passes_by_right_answers_alone(code):
    assert not check(code).passed


def test_who_takes_the_program_over_may_be_right():
    """What is asked is answered: how, nobody can tell."""
    code = "def answer(request): return ('value', sum(request[2]) if len(request) > 2 else None, '')\n"
    code += "sys.modules['__main__'].answer = answer"

    assert check(code, "def check_it(): assert solution.add is None").passed
    assert check("sys.modules['__main__'].value = lambda found, _: ('value', found, '')\n" + RIGHT).passed


def test_a_checker_that_ends_in_the_middle_has_passed_nothing_more():
    checks = CHECKS + "\ndef check_crash(): import os; os._exit(0)\ndef check_last(): pass"

    report = sandbox.check({"solution.py": RIGHT}, checks)

    assert [result.passed for result in report.results] == [True, True, False, False]
    assert report.results[3] == Result("last", False, "Not run.")
