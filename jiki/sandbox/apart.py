"""
Namespaces of its own, where the kernel gives them: from there no process outside can be named, and there is no network.

Many containers forbid it, and some distributions to all but root. Nothing else in the sandbox relies on it: it stands
for what an older Landlock leaves to the list of system calls alone.
"""

import os
import signal
from typing import NoReturn

from kernel import libc  # type: ignore[import-not-found]  # beside this file, where the programs look

USER, OTHERS = 0x10000000, 0x20000000 | 0x40000000 | 0x08000000  # processes, network, System V's IPC
PR_SET_DUMPABLE = 4


def separate() -> None:
    """
    Go on in a child with namespaces of its own; this process waits for it, and ends as it ended.

    Two processes are begun: the first keeps the namespace, and with it ends whatever is there; the second goes on. The
    first ends with this process, whatever ended that: it holds the other end of a pipe. SIGTERM ends all three.
    Where the kernel gives no namespaces or no processes, this process goes on itself.
    """
    if all(libc.unshare(spaces) for spaces in (USER | OTHERS, OTHERS)):
        return
    held, holding = os.pipe()
    try:
        if not (first := os.fork()):
            _keep(held)
        if second := os.fork():
            _wait(first, second, holding)
    except OSError:
        return
    finally:
        os.close(held)
        os.close(holding)


def _keep(held: int) -> NoReturn:
    _let_go_of_all_but(held)
    os.read(0, 1)
    os._exit(0)


def _wait(first: int, second: int, holding: int) -> NoReturn:
    signal.signal(signal.SIGTERM, lambda *_: os.kill(first, signal.SIGKILL))
    _let_go_of_all_but(holding)
    _, status = os.waitpid(second, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)  # here: who inherits the children of the dead may wait for none
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # one crash is enough
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _let_go_of_all_but(end: int) -> None:
    """The pipes to the checks must end with the child that has them."""
    os.dup2(end, 0)
    os.closerange(1, 64)
