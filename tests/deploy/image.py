"""The Dockerfile without Docker: what it says, and its build done in a folder instead of a container."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TIMEOUT = 600  # seconds for one step: the packages come over the network


@dataclass
class Stage:
    """One stage of the Dockerfile: its base, its name, and its instructions in order."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def of(self, instruction: str) -> list[str]:
        return [text for each, text in self.steps if each == instruction]


def read() -> list[Stage]:
    """The stages of the Dockerfile."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    stages: list[Stage] = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.strip():
            continue
        instruction, _, rest = line.strip().partition(" ")
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(base, name))
        else:
            stages[-1].steps.append((instruction, rest.strip()))
    return stages


def context() -> list[Path]:
    """The files that `COPY . .` takes, by .dockerignore: of the patterns that match, the last one counts."""
    patterns = (ROOT / ".dockerignore").read_text().split()
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [Path(name) for name in listed.stdout.splitlines() if (ROOT / name).exists() and _is_taken(name, patterns)]


def _is_taken(name: str, patterns: list[str]) -> bool:
    taken = True
    parts = Path(name).parts
    heads = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
    for pattern in patterns:
        wanted = pattern.removeprefix("!").removeprefix("**/")
        if any(fnmatch(head, wanted) for head in (parts if "**/" in pattern else heads)):
            taken = pattern.startswith("!")
    return taken


class Image:
    """
    What the Dockerfile makes, in `root`: /venv and /app lie there, and it runs with this machine's Python.

    Not done: what changes the container's system (`useradd`).
    """

    def __init__(self, root: Path, **arguments: str) -> None:
        """`arguments` are those of `docker build --build-arg`."""
        self.root, self.arguments = root, arguments
        self.build, self.final = read()

    def make(self) -> None:
        """Do the steps of the build, in order; CalledProcessError with the output of one that fails."""
        environment, workdir = self._outside(), self.root
        for instruction, text in self.build.steps:
            if instruction == "ENV":
                environment |= dict(pair.split("=", 1) for pair in text.split())
            elif instruction == "WORKDIR":
                workdir = self.path(text)
                workdir.mkdir(parents=True, exist_ok=True)
            elif instruction == "COPY":
                self._copy(text, workdir)
            elif instruction == "RUN":
                self._sh(text, workdir, environment)
            else:
                raise AssertionError(f"What does {instruction} do?")

    def path(self, inside: str) -> Path:
        return self.root / inside.lstrip("/")

    def environment(self, **extra: str) -> dict[str, str]:
        """What a process of the container finds in its environment."""
        own = dict(pair.split("=", 1) for text in self.final.of("ENV") for pair in text.split())
        for text in self.final.of("ARG"):
            name, _, default = text.partition("=")
            own = {key: value.replace(f"${name}", self.arguments.get(name, default)) for key, value in own.items()}
        return {**own, "PATH": f"{self.path('/venv/bin')}:/usr/bin:/bin", **extra}

    def command(self) -> list[str]:
        """The words of CMD."""
        (text,) = self.final.of("CMD")
        return list(json.loads(text))

    def health_check(self) -> list[str]:
        """The words of the command of HEALTHCHECK."""
        (text,) = self.final.of("HEALTHCHECK")
        return list(json.loads(text.partition(" CMD ")[2]))

    def run(self, *words: str, **environment: str) -> str:
        """A single command, as `docker run` does it; returns what it prints."""
        done = subprocess.run(
            words,
            cwd=self.path("/app"),
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert done.returncode == 0, f"{words}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def _outside(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        return {"PATH": os.environ["PATH"], "HOME": str(self.root), **kept}

    def _copy(self, text: str, workdir: Path) -> None:
        source, target = text.split()
        for name in context() if source == "." else [Path(source)]:
            to = workdir / target / name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to)

    def _sh(self, text: str, workdir: Path, environment: dict[str, str]) -> None:
        # `python` is the base image's: here, the one that the tests' own environment was made from.
        script = f'python() {{ {sys._base_executable} "$@"; }}\n{text.replace("/venv", str(self.path("/venv")))}'
        done = subprocess.run(
            ["/bin/sh", "-euc", script], cwd=workdir, env=environment, capture_output=True, text=True, timeout=TIMEOUT
        )
        assert done.returncode == 0, f"RUN {text}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"


def index_is_reachable(folder: Path) -> bool:
    """Whether pip can fetch the first package of the lock from wherever this machine has its packages from."""
    lock = (ROOT / "requirements.txt").read_text()
    first = re.search(r"^[\w-]+==.+(?:\n +--hash=.+)+", lock, re.MULTILINE)
    assert first
    (folder / "one.txt").write_text(first[0].rstrip("\\ "))
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--retries", "0"]
    return subprocess.run([*pip, "-d", folder, "-r", folder / "one.txt"], capture_output=True).returncode == 0
