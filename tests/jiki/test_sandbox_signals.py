"""Learners' code that wants to reach the processes beside it: by no way, and past none of the layers."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys

import psutil
import pytest

from jiki import sandbox

CHECK = "def check_add(): expect(solution.add, 1, 2, returns=3)"
PR_SET_CHILD_SUBREAPER = 36
SLEEP = ["/bin/sleep", "600"]

# By these the kernel sends SIGKILL to OTHER, or to whom it means, though nobody calls kill().
START = "import array, ctypes, fcntl, os, signal, socket\nr, w = os.pipe()\na, b = socket.socketpair()\n"
WAYS = {
    "kill": "os.kill(OTHER, 9)",
    "its group": "os.killpg(os.getpgid(OTHER), 9)",
    "the kernel, by F_SETOWN": (
        "fcntl.fcntl(r, 10, 9); fcntl.fcntl(r, 8, OTHER); fcntl.fcntl(r, 4, 0o24000); os.write(w, b'x')"
    ),
    "the kernel, by F_SETOWN_EX": (
        "fcntl.fcntl(r, 10, 9); fcntl.fcntl(r, 15, array.array('i', [1, OTHER]).tobytes());"
        "fcntl.fcntl(r, 4, 0o24000); os.write(w, b'x')"
    ),
    "the kernel, by FIOSETOWN and FIOASYNC": (
        "fcntl.fcntl(a, 10, 9); fcntl.ioctl(a, 0x8901, array.array('i', [OTHER]));"
        "fcntl.ioctl(a, 0x5452, array.array('i', [1])); b.send(b'x')"
    ),
    "the kernel, by SIOCSPGRP": (
        "fcntl.fcntl(a, 10, 9); fcntl.ioctl(a, 0x8902, array.array('i', [OTHER]));"
        "fcntl.fcntl(a, 4, 0o24000); b.send(b'x')"
    ),
    "the kernel, by what comes out of band": "fcntl.ioctl(a, 0x8901, array.array('i', [OTHER])); b.send(b'x', 1)",
}

# What stands for the whole confinement, each alone.
LAYERS = {
    "nothing": "",
    "seccomp": "seccomp.restrict()",
    "Landlock": "landlock.restrict('.')\nif landlock.version() < 6: sys.exit(99)",
    "namespaces": "apart.separate()\nif os.getppid(): sys.exit(99)",
}
ALONE = f"import os, sys\nsys.path.insert(0, {str(sandbox.PROGRAMS)!r})\nimport apart, kernel, landlock, seccomp\n"
ALONE += "kernel.checked(kernel.libc.prctl(38, 1, 0, 0, 0), '')\n{layer}\n"


@pytest.fixture(autouse=True)
def only_confined(settings):
    settings.SUBMISSION_SANDBOX = "confined"
    try:
        sandbox.check({"solution.py": ""}, CHECK)
    except sandbox.SandboxError as error:
        pytest.skip(str(error))


@pytest.fixture
def other():
    """A process outside, of the same user, in a group of its own. `other.lived()`: no signal has reached it so far."""
    with subprocess.Popen(SLEEP, start_new_session=True) as process:

        def lived():
            process.terminate()
            return process.wait() == -signal.SIGTERM

        process.lived = lived
        yield process
        process.kill()


@pytest.mark.parametrize("way", WAYS)
def test_no_process_is_reached_by(way, other):
    attack = WAYS[way].replace("OTHER", str(other.pid))

    report = sandbox.check({"solution.py": f"{START}def add(a, b):\n    {attack}\n    return a + b"}, CHECK)

    assert not report.passed
    assert "PermissionError" in report.results[0].message
    assert other.lived()


def test_the_process_that_checks_is_not_reached():
    attack = WAYS["the kernel, by F_SETOWN"].replace("9); fcntl.fcntl(r, 8, OTHER)", "0); fcntl.fcntl(r, 8, PARENT)")
    code = f"{START}def add(a, b):\n    {attack.replace('PARENT', str(os.getpid()))}\n    return a + b"
    came = []
    before = signal.signal(signal.SIGIO, lambda *_: came.append(True))
    try:
        report = sandbox.check({"solution.py": code}, CHECK)
    finally:
        signal.signal(signal.SIGIO, before)

    assert (report.passed, came) == (False, [])


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("way", [way for way in WAYS if "band" not in way])
def test_one_layer_is_enough_against(way, layer, other):
    attack = WAYS[way].replace("OTHER", str(other.pid))

    ended = subprocess.run(
        [sys.executable, "-I", "-c", f"{ALONE.format(layer=LAYERS[layer])}{START}{attack}"], capture_output=True
    )

    if ended.returncode == 99:
        pytest.skip(f"this kernel does not give {layer}")
    assert other.lived() == (layer != "nothing"), ended


@pytest.fixture
def old_kernel(tmp_path, monkeypatch):
    """As on Linux 5.13 in a container: Landlock's first version, and no namespaces."""
    programs = tmp_path / "programs"
    shutil.copytree(sandbox.PROGRAMS, programs)
    for name, line in (("landlock", "def version(): return 1"), ("apart", "def separate(): pass")):
        with (programs / f"{name}.py").open("a") as file:
            file.write(f"\n{line}\n")
    monkeypatch.setattr(sandbox, "PROGRAMS", programs)


@pytest.mark.usefixtures("old_kernel")
@pytest.mark.parametrize("way", WAYS)
def test_an_old_kernel_refuses_by_its_list_of_calls(way, other):
    test_no_process_is_reached_by(way, other)


@pytest.mark.usefixtures("old_kernel")
def test_without_namespaces_code_that_does_not_want_to_end_is_killed(settings):
    settings.SUBMISSION_LIMITS = {"wall": 5}  # the checks must have started by then
    code = "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\ntime.sleep(600)"

    report = sandbox.check({"solution.py": code}, CHECK)

    assert report.results[0].message == "It took longer than 5 seconds."


@pytest.fixture
def heir():
    """This process inherits the children of its children that end: `heir()` is whom it has inherited."""
    kernel = ctypes.CDLL(None)
    kernel.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = set(psutil.Process().children())
    yield lambda: set(psutil.Process().children()) - before
    kernel.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.mark.parametrize("body", ["return a + b", "import os; os._exit(1)", "import time; time.sleep(600)"])
def test_nobody_inherits_dead_processes(body, heir, settings):
    """A worker may be a container's first process, and waits for none that it has not started."""
    settings.SUBMISSION_LIMITS = {"wall": 5}

    sandbox.check({"solution.py": f"def add(a, b): {body}"}, CHECK)

    assert heir() == set()


@pytest.mark.parametrize("name", ["file", "abstract"])
def test_no_socket_of_another_is_written_to(name, tmp_path):
    """As the system's log is, which all may write to."""
    address = str(tmp_path / "log") if name == "file" else f"\0jiki-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(address)
        log.setblocking(False)
        body = f"socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'x', {address!r}); return a + b"

        report = sandbox.check({"solution.py": f"import socket\ndef add(a, b): {body}"}, CHECK)

        assert not report.passed
        with pytest.raises(BlockingIOError):
            log.recv(1)


def test_it_holds_nothing_but_its_pipes_and_the_null_device():
    code = (
        "import os, stat\ndef kind(end):\n    try: found = os.fstat(end)\n    except OSError: return ''\n"
        "    return 'pipe' if stat.S_ISFIFO(found.st_mode) else found.st_rdev\n"
        "def held(): return [found for end in range(64) if (found := kind(end))]"
    )
    null = os.stat(os.devnull).st_rdev

    report = sandbox.check(
        {"solution.py": code},
        f"def check(): pass\ndef check_held(): expect(solution.held, returns={[null] * 3} + ['pipe'] * 2)",
    )

    assert report.passed, report


def test_it_knows_nothing_of_the_environment():
    code = "import os\ndef known(): return sorted(os.environ)"

    report = sandbox.check({"solution.py": code}, "def check_it(): expect(solution.known, returns=['LC_CTYPE'])")

    assert report.passed, report  # which Python itself sets
