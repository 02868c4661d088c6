"""Programs of the product, run as somebody at a terminal runs them, with settings of their own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from jobs.broker.embedded import dismiss, stop_with_us

ROOT = Path(__file__).resolve().parent.parent.parent
TIMEOUT = 60  # seconds


def product_environment(**extra: str) -> dict[str, str]:
    """The environment of somebody who develops Jiki; nothing in it says that tests are running."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DEBUG": "1",
        "PYTHONUNBUFFERED": "1",
        **extra,
    }


class Program:
    """`manage.py <arguments>`, and what it has said so far. Stopped at the end of the context."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.said: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=env or product_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._guard = stop_with_us(self.process.pid)

    def read_until(self, text: str) -> str:
        """Wait until it says so; returns that line."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.said.append(line)
            if text in line:
                return line
        raise AssertionError(f"It never said {text!r}:\n{self.output}")

    def interrupt(self) -> None:
        """As Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def wait(self) -> int:
        """Its exit code, after it ended by itself."""
        out, _ = self.process.communicate(timeout=TIMEOUT)
        self.said.append(out)
        return self.process.returncode

    @property
    def output(self) -> str:
        return "".join(self.said)

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.wait()
        if self.process.stdout:
            self.process.stdout.close()
        dismiss(self._guard)
