"""What a learner's code may try, in real processes: each ends in a clear result, and harms nothing."""

import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psutil
import pytest

from jiki import sandbox
from jiki.sandbox import Limits, Report, Result, SandboxError, syscalls
from tests.jiki.conftest import CHECKS, RIGHT, WRONG
from tests.jiki.sandbox_calls import REFUSED
from tests.processes import wait_until


def check(code, checks=CHECKS, **more):
    return sandbox.check({"solution.py": code, **{f"{name}.py": text for name, text in more.items()}}, checks)


def first_message(code, **more):
    """What the first check says of code that is wrong."""
    report = check(code, **more)
    assert not report.passed
    assert not report.results[0].passed
    return report.results[0].message


def programs(parent=None):
    """The programs that this process, or another, has started and that are still there."""
    found = psutil.Process(parent).children(recursive=True) if parent else psutil.process_iter()
    return [p for p in found if any(str(sandbox.PROGRAMS) in part for part in command_of(p))]


def command_of(process):
    try:
        return process.cmdline() if process.status() != psutil.STATUS_ZOMBIE else []
    except psutil.Error:
        return []


def status_of(process):
    """What the kernel says of it."""
    return dict(re.findall(r"(\w+):\t(.*)", Path(f"/proc/{process.pid}/status").read_text()))


def confined_programs(parent):
    """Those of a process's programs that run others' code, confined; not those that wait for them."""
    return [program for program in programs(parent) if status_of(program)["Seccomp"] == "2"]


def start_solver(folder, **limits):
    return sandbox._start("solver", Limits(**limits), cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path, monkeypatch):
    """Of no check: no process, no file."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield
    wait_until(lambda: programs(os.getpid()) == [])
    assert list(tmp_path.glob("jiki-submission-*")) == []


# --- right and wrong -------------------------------------------------------------------------


def test_right_code_passes_each_check():
    report = check(RIGHT)

    assert report == Report([Result("It adds numbers", True), Result("texts", True)])
    assert report.passed


def test_wrong_code_is_told_what_came_instead():
    report = check(WRONG)

    assert report.results == [
        Result("It adds numbers", True),
        Result("texts", False, "add('a', 'b') returned 3; it should return 'ab'."),
    ]
    assert not report.passed


def test_files_can_import_one_another_whatever_they_are_called():
    assert check("from confine import add", confine="from program import add", program=RIGHT).passed


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def add(a, b) return a", "Syntax error in solution.py, line 1: expected ':'."),
        ("x = (", "Syntax error in solution.py, line 1: '(' was never closed."),
        ("(" * 10_000, "Syntax error in solution.py, line 1: too many nested parentheses."),
        ("x = '\0'", "Syntax error in solution.py"),
        ("import other", "Syntax error in other.py, line 2: invalid syntax."),
        ("\nvalue", "The program stops: NameError: name 'value' is not defined (solution.py, line 2)."),
        ("import no_such", "The program stops: ModuleNotFoundError: No module named 'no_such' (solution.py, line 1)."),
        ("import sys; sys.exit(0)", "The program stops: SystemExit: 0 (solution.py, line 1)."),
    ],
)
def test_code_that_does_not_load_has_a_message_and_no_results(code, message):
    report = check(code, other="\nx = = 1" if "other" in code else "")

    assert report.results == []
    assert report.message.startswith(message)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("sub = 1", "There is no 'add' in solution.py."),
        ("def add(a, b): return 1 / 0", "add(1, 2) raised ZeroDivisionError: division by zero (solution.py, line 1)."),
        ("def add(a): return a", "add(1, 2) raised TypeError: add() takes 1 positional argument but 2 were given."),
        ("def add(a, b): return True", "add(1, 2) returned True; it should return 3."),
        ("def add(a, b): yield a", "add(1, 2) gave generator: a plain value was expected."),
        ("def add(a, b): return float('nan')", "add(1, 2) gave float: a plain value was expected."),
        ("def add(a, b): return 'x' * 200_000", "add(1, 2) gave too much at once: a plain value was expected."),
        ("def add(a, b): return 'x' * 10_000", "add(1, 2) returned '" + "x" * 299 + "...; it should return 3."),
        ("def add(a, b): return input()", "add(1, 2) raised EOFError: EOF when reading a line (solution.py, line 1)."),
    ],
)
def test_a_wrong_answer_says_which_call_and_what_it_gave(code, message):
    assert first_message(code) == message


def test_checks_may_expect_what_is_printed_and_raised_and_read_values():
    code = (
        "SIZE = 3\ndef tell(x): print(x)\ndef fail(x): raise ValueError(x)\ndef many(): return {(1, 'a'): [{2}, b'x']}"
    )
    checks = """
def check_prints(): expect(solution.tell, "hi", prints="hi")
def check_prints_not(): expect(solution.tell, "hi", prints="ho")
def check_raises(): expect(solution.fail, 1, raises=ValueError)
def check_raises_not(): expect(solution.tell, 1, raises=ValueError)
def check_value(): assert solution.SIZE == 3
def check_types(): expect(solution.many, returns={(1, "a"): [{2}, b"x"]})
def check_bare(): assert solution.SIZE == 4
def check_own_error(): solution.SIZE + "x"
def check_endless(): assert not "x" * 1_000_000, "x" * 1_000_000
"""
    assert [(result.passed, result.message) for result in check(code, checks).results] == [
        (True, ""),
        (False, "tell('hi') printed 'hi\\n'; it should print 'ho'."),
        (True, ""),
        (False, "tell(1) returned None; it should raise ValueError."),
        (True, ""),
        (True, ""),
        (False, "That is not so."),
        (False, "TypeError: unsupported operand type(s) for +: 'int' and 'str'"),
        (False, "x" * 2_000),
    ]


def test_each_check_finds_the_code_as_if_it_had_just_been_started():
    code = "calls = []\ndef count(): calls.append(1); return len(calls)"

    assert check(code, "def check_1(): expect(solution.count, returns=1)\ndef check_2(): check_1()").passed


@pytest.mark.parametrize(
    ("checks", "message"),
    [
        ("def check_x(:", "The exercise's checks are broken: SyntaxError"),
        ("import no_such", "The exercise's checks are broken: ModuleNotFoundError"),
        (
            "x = 1",
            "The exercise's checks are broken: ValueError: There are 0 functions check_...; 1 to 100 are needed.",
        ),
        ("import os; os._exit(3)", "The checks did not start"),
        ("while True: pass", "The checks did not start"),
    ],
)
def test_broken_checks_are_no_fault_of_the_learner(checks, message):
    with pytest.raises(SandboxError, match=re.escape(message)):
        check(RIGHT, checks)


# --- what is tried ---------------------------------------------------------------------------

NEVER_ENDS = "It computed for more than 1 seconds: perhaps a loop that never ends."


@pytest.fixture
def confined(settings, tmp_path):
    """By the kernel; skipped where it cannot."""
    settings.SUBMISSION_SANDBOX = "confined"
    with start_solver(tmp_path) as program:
        said = program.stdout.readline()
        program.kill()
    if said != b"('ready',)\n":
        pytest.skip(f"no Landlock and seccomp here: {said}")


@pytest.fixture(params=["confined", "watched"])
def sandboxed(request, settings):
    """By the kernel; and as where it cannot."""
    settings.SUBMISSION_SANDBOX = request.param
    if request.param == "confined":
        request.getfixturevalue("confined")
    return request.param


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("while True: pass", NEVER_ENDS),
        ("while True: print('x' * 1000)", NEVER_ENDS),
        ("return len('x' * 1_000_000_000)", "add(1, 2) raised MemoryError: more than 256 MB were needed."),
        ("import os; os._exit(0)", "It exited with code 0 before it had answered."),
        ("import sys; sys.exit(0)", "add(1, 2) raised SystemExit: 0 (solution.py, line 2)."),
        ("return add(a, b)", "add(1, 2) raised RecursionError: maximum recursion depth exceeded"),
        ("import os; os.closerange(0, 256)", "It exited with code 1 before it had answered."),
        ("import os; os.abort()", "It crashed (SIG"),
    ],
)
def test_what_does_not_answer_is_ended(body, message, sandboxed):
    report = check(f"def add(a, b):\n    {body}\n")

    assert report.results[0].message.startswith(message), report.results[0].message
    assert not any(result.passed for result in report.results)


def test_what_is_not_run_any_more_is_said():
    assert check("def add(a, b):\n    import os; os._exit(3)").results[1] == Result("texts", False, "Not run.")


@pytest.mark.parametrize(
    "body",
    [
        "import os\n    while True: os.fork()",
        "import subprocess; subprocess.run(['/bin/true'])",
        "import os; os.execv('/bin/true', ['true'])",
        "import os; os.remove(__file__)",
        "import os; os.rename(__file__, 'x')",
        "import shutil; shutil.rmtree('/')",
        "open('x', 'w')",
        "open(__file__, 'a')",
        "import os; os.mkdir('x')",
        "import os; os.chmod(__file__, 0)",
        "import os; os.kill(os.getppid(), 9)",
        "import fcntl, os; fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())",
        "import fcntl; fcntl.ioctl(0, 0x8901, b'abcd')",
        "import socket; socket.create_connection(('127.0.0.1', PORT))",
        "import socket; socket.socket(socket.AF_UNIX)",
        "import socket; socket.create_server(('127.0.0.1', 0))",
        "import resource; resource.setrlimit(resource.RLIMIT_CPU, (-1, -1))",
    ],
)
def test_what_is_not_allowed_raises_in_the_learners_code(body, sandboxed):
    with socket.create_server(("127.0.0.1", 0)) as server:
        body = body.replace("PORT", str(server.getsockname()[1]))

        message = first_message(f"def add(a, b):\n    {body}\n")

    assert re.match(r"add\(1, 2\) raised (PermissionError|OSError|ValueError): ", message), message
    if "resource" not in body:
        assert "ermission denied" in message or "not permitted" in message


def in_the_kernels_confinement(body):
    return first_message(f"import os\ndef add(a, b):\n    {body}\n")


def test_files_elsewhere_cannot_be_read(tmp_path, confined):
    secret = tmp_path / "secret"
    secret.write_text("x")

    for path in (secret, "/etc/passwd", f"/proc/{os.getpid()}/environ", sandbox.PROGRAMS / "checker.py", "/"):
        assert "PermissionError" in in_the_kernels_confinement(f"return os.open({str(path)!r}, os.O_RDONLY)"), path


def test_its_own_files_and_the_library_can_be_read(confined):
    code = "import asyncio, decimal, json, sqlite3, zoneinfo\ndef add(a, b):\n    assert open('words.py').read()"

    assert check(f"{code}\n    async def f(): return a + b\n    return asyncio.run(f())", words="words = 1").passed


def test_threads_cannot_be_started(confined):
    assert "can't start new thread" in in_the_kernels_confinement("import threading; threading.Thread().start()")


@pytest.mark.parametrize(
    "body", ["import ctypes; ctypes.string_at(0)", "import sys; sys.setrecursionlimit(10**9); f = lambda: f(); f()"]
)
def test_a_crash_is_named(body, confined):
    message = in_the_kernels_confinement(body)

    assert message.startswith(("It crashed (SIGSEGV).", "add(1, 2) raised ", "It computed"))


def test_the_kernels_limits_hold_for_code_that_goes_round_python(confined):
    call = "import ctypes; c = ctypes.CDLL(None, use_errno=True); return ctypes.get_errno() if c.{} < 0 else 'done'"

    for name in ("socket(2, 1, 0)", "fork()", f"kill({os.getpid()}, 0)", "unlink(b'solution.py')", "unshare(0)"):
        assert in_the_kernels_confinement(call.format(name)) == "add(1, 2) returned 1; it should return 3.", name


def test_what_sleeps_is_ended_by_the_clock(settings):
    settings.SUBMISSION_LIMITS = {"wall": 5}

    assert first_message("import time\ndef add(a, b): time.sleep(60)") == "It took longer than 5 seconds."


def test_what_does_not_want_to_end_is_killed(settings):
    settings.SUBMISSION_LIMITS = {"wall": 5}
    code = (
        "import signal, time\nsignal.alarm(0)\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\ntime.sleep(600)"
    )
    checking = threading.Thread(target=check, args=(code,), daemon=True)
    checking.start()

    checking.join(30)

    assert not checking.is_alive()


@pytest.mark.parametrize("after", ["", "\n    while True: pass"])
def test_what_lets_go_of_its_pipes_is_ended(after):
    message = first_message(f"import os\ndef add(a, b):\n    os.closerange(3, 64){after}")

    assert message in (
        "It closed its connection to the checks.",
        "It exited with code 1 before it had answered.",
    )


def test_what_ignores_the_signal_of_its_limit_is_killed():
    code = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\ndef add(a, b):\n    while True: pass"

    assert first_message(code) == NEVER_ENDS


# --- forging ---------------------------------------------------------------------------------

FLOOD = "import os\nfor fd in range(64):\n    try:\n        os.write(fd, {!r})\n    except OSError:\n        pass\n"


@pytest.mark.usefixtures("confined")
@pytest.mark.parametrize(
    "code",
    [
        FLOOD.format(b"('passed', '')\n('passed', '')\n"),
        FLOOD.format(b"('checks', ['x'])\n('passed', '')\n"),
        FLOOD.format(b"('ready',)\n" * 50),
        FLOOD.format(b"('value', None, '')\n" * 50) + "def add(a, b): return 0",
        FLOOD.format(b"('unconfined', 'x')\n"),
        FLOOD.format(b"(" * 50_000 + b"\n"),
        FLOOD.format(b"x" * 60_000),
        "print(('passed', ''))\nimport sys; sys.stdout.write(repr(('passed', '')))",
        "class Any:\n    def __eq__(self, other): return True\n    __hash__ = None\ndef add(a, b): return Any()",
        "class Text(str):\n    def __repr__(self): return \"'ab'\"\ndef add(a, b): return Text()",
        "import sys\nsys.modules['__main__'].is_literal = lambda found: True\ndef add(a, b): return object()",
        "import builtins\nbuiltins.AssertionError = builtins.repr = None\ndef add(a, b): return 0",
        "import os\nos._exit(0)",
    ],
    ids=range(13),
)
def test_no_result_is_forged(code):
    report = check(code)

    assert not report.passed
    assert report.message or report.results
    assert not any(result.passed for result in report.results)


def test_what_is_said_can_be_stored():
    code = "def add(a, b): raise ValueError('\\udcff\\0' + 'x' * 100_000)"

    message = first_message(code)

    assert message.encode()
    assert "\0" not in message
    assert len(message) <= 2_000


# --- around it -------------------------------------------------------------------------------


def test_a_name_that_leads_elsewhere_is_refused():
    with pytest.raises(SandboxError, match="Not a plain file name"):
        sandbox.check({"solution.py": RIGHT, "../x.py": ""}, CHECKS)


@pytest.mark.parametrize("name", ["..", "a\0.py", "\u00e9" * 200 + ".py", "\ud800.py"], ids=ascii)
def test_a_name_that_no_file_can_have_is_refused(name):
    with pytest.raises(SandboxError, match="cannot be written"):
        sandbox.check({"solution.py": RIGHT, name: ""}, CHECKS)


def test_a_text_that_no_file_can_have_is_refused():
    with pytest.raises(SandboxError, match="'solution.py' cannot be written"):
        sandbox.check({"solution.py": "x = '\ud800'"}, CHECKS)


# It may come before Popen has returned: then nobody can wait for that program, which ends by itself.
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_an_interrupt_of_the_job_ends_it_soon_whenever_it_comes(settings):
    settings.SUBMISSION_LIMITS = {"wall": 5}

    class Stop(BaseException):
        pass

    def interrupt():
        wait_until(lambda: programs(os.getpid()))
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    def stop(*args):
        raise Stop

    before = signal.signal(signal.SIGUSR1, stop)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(Stop):
            check("import time\ntime.sleep(60)")
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)


@pytest.fixture
def checking(tmp_path):
    """`checking(folder)`: a process in the middle of a check, which has its temporary files there."""
    code = (
        "import django; django.setup(); from django.conf import settings; from jiki import sandbox\n"
        "settings.SUBMISSION_LIMITS = {'wall': 600}\n"  # no other clock ends it
        "sandbox.check({'solution.py': 'import time; time.sleep(60)'}, 'def check_x(): solution.x')"
    )
    workers = []

    def start(folder):
        worker = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(folder)})
        workers.append(worker)
        wait_until(lambda: any("checker" in part for each in programs(worker.pid) for part in command_of(each)))
        return worker

    yield start
    for worker in workers:
        worker.kill()
        worker.wait()


@pytest.mark.processes
def test_a_killed_worker_leaves_no_process_behind(tmp_path, confined, checking):
    (tmp_path / "elsewhere").mkdir()
    worker = checking(tmp_path / "elsewhere")
    wait_until(lambda: len(confined_programs(worker.pid)) == 2)
    started = programs(worker.pid)

    worker.kill()
    worker.wait()

    wait_until(lambda: not any(command_of(process) for process in started))


@pytest.mark.processes
def test_the_folder_of_a_killed_worker_goes_with_the_next_check_and_no_living_ones(tmp_path, checking):
    killed = checking(tmp_path)
    (left,) = tmp_path.glob("jiki-submission-*")
    living = checking(tmp_path)
    (kept,) = set(tmp_path.glob("jiki-submission-*")) - {left}
    killed.kill()
    killed.wait()
    assert len(list(tmp_path.glob("jiki-submission-*"))) == 2

    assert check(RIGHT).passed
    assert list(tmp_path.glob("jiki-submission-*")) == [kept]
    assert (kept / "solution.py").exists()

    living.kill()
    living.wait()
    assert check(RIGHT).passed


def test_what_is_only_called_so_is_left_alone(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").touch()
    link, file = tmp_path / "jiki-submission-link", tmp_path / "jiki-submission-file"
    link.symlink_to(other)
    file.touch()
    (inside := tmp_path / "jiki-submission-inside").mkdir()
    (inside / "link").symlink_to(other)  # goes, and what it leads to does not
    strange = tmp_path / "jiki-submission-strange"
    if os.geteuid() == 0:
        strange.mkdir()
        os.chown(strange, 12_345, 12_345)

    assert check(RIGHT).passed

    assert (other / "file").exists()
    assert not inside.exists()
    assert strange.exists() or os.geteuid() != 0
    link.unlink()
    file.unlink()
    if strange.exists():
        strange.rmdir()


def test_a_folder_that_is_taken_for_left_before_it_is_locked_is_replaced(tmp_path, monkeypatch):
    make = tempfile.mkdtemp

    def overtaken(*args, **kwargs):
        monkeypatch.setattr(tempfile, "mkdtemp", make)
        folder = make(*args, **kwargs)
        assert check(WRONG).results  # another check, which removes it
        assert not Path(folder).exists()
        return folder

    monkeypatch.setattr(tempfile, "mkdtemp", overtaken)

    assert check(RIGHT).passed


def test_a_program_that_nobody_remembers_ends_by_itself(tmp_path):
    with start_solver(tmp_path, wall=0.1) as program:
        assert program.wait(30) == -signal.SIGALRM


def test_a_confined_program_has_no_privileges(tmp_path, confined):
    with start_solver(tmp_path) as program:
        assert program.stdout.readline() == b"('ready',)\n"
        (confined,) = confined_programs(os.getpid())
        status = status_of(confined)
        program.kill()

    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert {int(status[kind], 16) for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}


def test_programs_whose_parent_is_gone_do_not_begin(tmp_path):
    for program in ("solver", "checker"):
        ended = subprocess.run(
            [sys.executable, "-I", "-S", sandbox.PROGRAMS / f"{program}.py", "1", "confined", *"111111"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=tmp_path,
        )
        assert (ended.returncode, ended.stdout, ended.stderr) == (1, b"", b"")


def test_many_threads_check_at_once():
    reports = []
    threads = [threading.Thread(target=lambda code=code: reports.append(check(code))) for code in [RIGHT, WRONG] * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(report.passed for report in reports) == [False] * 4 + [True] * 4


def test_the_table_of_system_calls_is_the_systems():
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    generic = Path("/usr/include/asm-generic/unistd.h")
    if not (header.exists() and generic.exists()):
        pytest.skip("no headers of the kernel here")
    for column, path in enumerate((header, generic)):
        known = {
            name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", path.read_text())
        } | ({"newfstatat": 79} if column else {})
        for name, row in syscalls.ALLOWED.items():
            assert row[column] in (known.get(name), None), name
        for name, row in REFUSED.items():
            assert row[column] in (known.get(name, row[column]), None), name  # older headers do not know the newest


def test_where_the_kernel_cannot_confine_nothing_is_run_unless_allowed(settings, monkeypatch, tmp_path):
    programs = tmp_path / "programs"
    shutil.copytree(sandbox.PROGRAMS, programs)
    (programs / "syscalls.py").write_text("def numbers(machine): raise OSError('no system calls are known here')")
    monkeypatch.setattr(sandbox, "PROGRAMS", programs)

    settings.SUBMISSION_SANDBOX = "confined"
    with pytest.raises(SandboxError, match="cannot confine a learner's code: .*SUBMISSION_SANDBOX"):
        check(RIGHT)
    settings.SUBMISSION_SANDBOX = "any"
    assert check(RIGHT).passed
    assert "Operation not permitted: os.fork" in first_message("import os\ndef add(a, b): os.fork()")


def test_an_unknown_machine_is_refused():
    assert syscalls.numbers(platform.machine())
    with pytest.raises(OSError, match="'vax' are not listed"):
        syscalls.numbers("vax")
