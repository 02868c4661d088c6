"""
Separate namespaces, where the kernel allows them: there no outside process can be addressed, and there is no network.

Many containers forbid them, and some distributions allow them only to root. Nothing else in the sandbox relies on them:
they cover what an older Landlock leaves to the list of system calls alone.
"""

import os
import signal
from typing import NoReturn

from kernel import libc  # type: ignore[import-not-found]  # beside this file, where the programs look

USER, OTHERS = 0x10000000, 0x20000000 | 0x40000000 | 0x08000000  # processes, network, System V's IPC
PR_SET_DUMPABLE = 4


def separate() -> None:
    """
    Continue in a child with separate namespaces; this process waits for the child, and exits as it did.

    Two processes are started: the first keeps the namespace, and its end kills all processes in it; the second
    continues. The first ends with this process, however that ends: it reads from a pipe whose other end this process
    holds. SIGTERM ends all three. If the kernel allows no namespaces or no processes, this process continues itself.
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
    _close_all_but(held)
    os.read(0, 1)
    os._exit(0)


def _wait(first: int, second: int, holding: int) -> NoReturn:
    signal.signal(signal.SIGTERM, lambda *_: os.kill(first, signal.SIGKILL))
    _close_all_but(holding)
    _, status = os.waitpid(second, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)  # here, because a process that inherits orphans may not wait for them
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # one crash is enough
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _close_all_but(end: int) -> None:
    """Close all descriptors but `end`: the pipes to the checks must close with the child that uses them."""
    os.dup2(end, 0)
    os.closerange(1, 64)
