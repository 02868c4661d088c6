"""Commands that start processes, or end the one they run in."""

import atexit
import concurrent.futures
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from django.db import connections

from jobs import Mandate
from tests.sample.models import Note


class ExitAtOnce(Mandate):
    """Ends its process without a word, as python-daemon's DaemonContext does."""

    code: int

    def call(self) -> None:
        Note.objects.create(text="begun")
        os._exit(self.code)


class Fork(Mandate):
    """Forks, has the copy end in one of many ways, and writes down its exit code."""

    retries = 0
    how: str

    def call(self) -> None:
        Note.objects.count()  # a database connection is open
        pid = os.fork()
        if pid:
            _, status = os.waitpid(pid, 0)
            Note.objects.create(text=f"{self.how}: {os.waitstatus_to_exitcode(status)}")
            return
        if self.how == "raise":
            raise ValueError("in the fork")
        if self.how == "query":
            connections.close_all()
            Note.objects.create(text="from the fork")
        if self.how == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        if self.how == "signals":
            numbers = (signal.SIGTERM, signal.SIGTSTP, signal.SIGTTIN, signal.SIGHUP, signal.SIGUSR1)
            sys.exit(sum(signal.getsignal(number) is not signal.SIG_DFL for number in numbers))
        if self.how.isdigit():
            sys.exit(int(self.how))


class ForkAsync(Mandate):
    retries = 0

    async def call(self) -> int:
        pid = os.fork()
        if pid:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.exit(5)


def double(number: int) -> int:
    return 2 * number


class UsePools(Mandate):
    """What multiprocessing and concurrent.futures do in a job, as far as it needs signals that have an effect."""

    retries = 0
    timeout = 60

    def call(self) -> list[object]:
        context = multiprocessing.get_context("fork")
        process = context.Process(target=time.sleep, args=(600,))
        process.start()
        process.terminate()
        process.join(20)
        with context.Pool(2) as pool:
            doubled = pool.map(double, range(3))
            pool.apply_async(time.sleep, (600,))
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
            again = list(executor.map(double, range(3)))
        return [process.exitcode, doubled, again]


class InterruptProgram(Mandate):
    """Sends SIGINT to a program that it has started."""

    retries = 0

    def call(self) -> int:
        program = subprocess.Popen(["/bin/sleep", "600"])
        program.send_signal(signal.SIGINT)
        try:
            return program.wait(10)
        finally:
            program.kill()


class Hang(Mandate):
    """Waits for a program that does not end, and that has started another."""

    timeout = 1
    retries = 0
    pids: str

    def call(self) -> None:
        subprocess.run(["/bin/sh", "-c", f"sleep 600 & echo $$ $! > {self.pids}; wait"], check=False)


class HoldLock(Mandate):
    """Sits in C code that does not let the interpreter's lock go."""

    timeout = None
    started: str
    seconds: int

    def call(self) -> None:
        Path(self.started).touch()
        ctypes.PyDLL(None).sleep(self.seconds)


class AtExit(Mandate):
    """Leaves something to do at the end of its process."""

    path: str
    stuck: bool = False

    def call(self) -> None:
        if self.stuck:
            threading.Thread(target=threading.Event().wait, daemon=False).start()
            atexit.register(threading.Event().wait)
        atexit.register(Path(self.path).touch)
