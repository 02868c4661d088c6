"""Each system call that learners' code may not make, made by such code as the kernel confines it: each is refused."""

import ast
import importlib
import os
import platform
import subprocess
import sys

import pytest

from jiki import sandbox
from jiki.sandbox import arguments, syscalls
from tests.jiki.sandbox_calls import ALLOWED, REFUSED, WITH_ARGUMENTS

MACHINE = platform.machine()
COLUMN = {"x86_64": 0, "aarch64": 1}.get(MACHINE, 0)
REFUSED_HERE = {name: numbers[COLUMN] for name, numbers in REFUSED.items() if numbers[COLUMN] is not None}
ALLOWED_HERE = {name: numbers[COLUMN] for name, numbers in syscalls.ALLOWED.items() if numbers[COLUMN] is not None}
X32 = 1 << 30  # of x86-64's own calls, those whose pointers are 32 bits

# Tries all, in one process: what is refused harms no other.
TRY = """
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
(r, w), (s, _), memory = os.pipe(), socket.socketpair(), ctypes.create_string_buffer(4096)
values = {"r": r, "w": w, "s": s.fileno(), "buffer": memory, "path": b"solution.py", "other": OTHER, "high": 1 << 32}
values["DIRECTORY"] = os.O_DIRECTORY

def call(number, given):
    ctypes.memset(memory, 0, len(memory))
    given = eval(f"({given},)", values) if given else ()
    given = [each if isinstance(each, (bytes, ctypes.Array)) else ctypes.c_ulong(each) for each in given]
    return 0 if libc.syscall(ctypes.c_long(number), *given) >= 0 else ctypes.get_errno()

def attempt(calls):
    return {name: call(number, given) for name, (number, given) in calls.items()}
"""


def tried(calls, other):
    """What comes of calls in confined code: `calls` are numbers and arguments; 0 or an error's number for each."""
    checks = f"def check_x():\n    assert False, str(list(solution.attempt({calls!r}).values()))"
    report = sandbox.check({"solution.py": TRY.replace("OTHER", str(other))}, checks)
    try:
        return dict(zip(calls, ast.literal_eval(report.results[0].message), strict=True))
    except (IndexError, SyntaxError, ValueError):
        pytest.fail(str(report))


@pytest.fixture(scope="module")
def outcomes():
    """What came of all these calls. `other` is a process of the same user, outside."""
    with pytest.MonkeyPatch.context() as patch, subprocess.Popen(["/bin/sleep", "600"]) as other:
        patch.setattr("django.conf.settings.SUBMISSION_SANDBOX", "confined")
        patch.setattr("django.conf.settings.SUBMISSION_LIMITS", {"cpu": 10, "wall": 60})
        try:
            found = tried({name: (number, "0, 0, 0, 0, 0, 0") for name, number in REFUSED_HERE.items()}, other.pid)
            for calls in (WITH_ARGUMENTS, ALLOWED):
                here = {what: (ALLOWED_HERE[name], given) for what, (name, given) in calls.items() if known(name)}
                found |= tried(here, other.pid)
            assert other.poll() is None
            yield found
        except sandbox.SandboxError as error:
            pytest.skip(str(error))
        finally:
            other.kill()


def known(name):
    return name in ALLOWED_HERE


@pytest.mark.parametrize("name", REFUSED_HERE)
def test_a_call_is_refused(name, outcomes):
    assert os.strerror(outcomes[name]) == "Operation not permitted"


@pytest.mark.parametrize("what", [what for what, (name, _) in WITH_ARGUMENTS.items() if known(name)])
def test_an_allowed_call_is_refused_with(what, outcomes):
    assert os.strerror(outcomes[what]) == "Operation not permitted"


@pytest.mark.parametrize("what", ALLOWED)
def test_an_allowed_call_may_do(what, outcomes):
    assert os.strerror(outcomes[what]) == "Success"


@pytest.mark.skipif(MACHINE != "x86_64", reason="only x86-64 has them")
def test_no_call_is_made_by_its_other_number(outcomes, settings):
    settings.SUBMISSION_SANDBOX = "confined"
    calls = {name: (number | X32, "0, 0, 0") for name, number in ALLOWED_HERE.items()}

    assert set(tried(calls, 0).values()) == {1}


@pytest.mark.skipif(MACHINE != "x86_64", reason="only x86-64 runs it")
def test_a_call_by_32_bit_code_ends_the_process(outcomes, settings):
    settings.SUBMISSION_SANDBOX = "confined"
    code = (
        "import ctypes, mmap\ndef attempt():\n"
        "    memory = mmap.mmap(-1, 4096, prot=7)\n"
        "    memory.write(bytes([0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3]))  # mov eax, getpid; int 0x80; ret\n"
        "    return ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))()"
    )

    report = sandbox.check({"solution.py": code}, "def check_x(): solution.attempt()")

    assert report.results[0].message in ("It crashed (SIGSYS).", "It crashed (SIGSEGV).")  # without 32-bit code at all


@pytest.fixture
def seccomp(monkeypatch):
    """The module as the programs import it, without its folder."""
    monkeypatch.syspath_prepend(str(sandbox.PROGRAMS))
    before = set(sys.modules)
    yield importlib.import_module("seccomp")
    for name in set(sys.modules) - before:
        del sys.modules[name]


def decision(lines, architecture, number, given=()):
    """What the kernel would decide by these lines of a call: it runs them like this."""
    words = [
        number,
        architecture,
        0,
        0,
        *(word for each in given for word in (each & 0xFFFFFFFF, each >> 32 & 0xFFFFFFFF)),
    ]
    accumulator = at = 0
    while True:
        op, then, other, value = lines[at]
        at += 1
        if op == 0x20:
            accumulator = words[value // 4]
        elif op == 0x54:
            accumulator &= value
        elif op == 0x05:
            at += value
        elif op == 0x15:
            at += then if accumulator == value else other
        else:
            return {0x7FFF0000: "allow", 0x00050001: "refuse", 0x80000000: "kill"}[value]


@pytest.mark.parametrize(("machine", "column", "directory"), [("x86_64", 0, 0o200000), ("aarch64", 1, 0o40000)])
def test_the_filter_decides_alike_on(machine, column, directory, seccomp):
    """As the kernel runs it, without a machine of that kind."""
    lines, (architecture, allowed) = seccomp.program(machine), syscalls.numbers(machine)
    values = {"r": 3, "w": 4, "s": 5, "buffer": 1 << 40, "path": 1 << 40, "other": 99, "high": 1 << 32}

    def decided(name, given):
        found = eval(f"({given},)", values | {"DIRECTORY": directory})  # noqa: S307
        numbers = [1 << 40 if isinstance(each, bytes) else each for each in found]
        return decision(lines, architecture, allowed[name], [*numbers, 0, 0, 0, 0, 0, 0][:6])

    assert len(lines) < 4096
    assert max(max(line[1:3]) for line in lines) < 256
    for row in REFUSED.values():
        assert row[column] is None or decision(lines, architecture, row[column], [0] * 6) == "refuse"
    for name in allowed.keys() - arguments.ARGUMENTS.keys():
        assert decision(lines, architecture, allowed[name]) == "allow"
        assert decision(lines, architecture ^ 0x80000000, allowed[name]) == "kill"
        assert decision(lines, architecture, allowed[name] | X32) == "refuse"
    for calls, outcome in ((WITH_ARGUMENTS, "refuse"), (ALLOWED, "allow")):
        for what, (name, given) in calls.items():
            assert name not in allowed or decided(name, given) == outcome, what


def test_the_table_refuses_what_the_tests_try():
    assert not REFUSED.keys() & syscalls.ALLOWED.keys()
    assert arguments.ARGUMENTS.keys() <= syscalls.ALLOWED.keys()
    assert {name for name, _ in WITH_ARGUMENTS.values()} == arguments.ARGUMENTS.keys()
    for column in (0, 1):
        numbers = [row[column] for row in [*syscalls.ALLOWED.values(), *REFUSED.values()] if row[column] is not None]
        assert len(numbers) == len(set(numbers))
