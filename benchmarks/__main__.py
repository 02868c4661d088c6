"""`python -m benchmarks`: every load, in rounds, each round all systems in turn; then the tables."""

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import bench, results, servers, systems, tables
from benchmarks.bench import Bench, Sizes
from benchmarks.loads import LOADS, ONCE
from benchmarks.processes import ROOT, Client, ClientError
from benchmarks.results import Results
from benchmarks.systems import Places, System


def main() -> int:
    options = parse()
    if options.show:
        return show()
    # A stop asked for by a signal is the same as Ctrl-C: everything that was started is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sizes = bench.QUICK if options.quick else bench.FULL
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jiki-bench-")))
        # PostgreSQL refuses to run as root, and the user that it then runs as must reach its own folder.
        directory.chmod(0o711)
        found = Results()
        run = Run(options, sizes, directory, found, stack)
        begun = time.monotonic()
        stopped = False
        try:
            run.measure(options.systems, options.loads)
        except KeyboardInterrupt:
            stopped = True
            print("\nStopped. What was measured so far:")
        told(found, run, quick=options.quick, stopped=stopped, seconds=time.monotonic() - begun)
    return 130 if stopped else 1 if found.failed else 0


def parse() -> argparse.Namespace:
    all_systems = ", ".join(system.name for system in systems.SYSTEMS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run us and the peers side by side.")
    parser.add_argument("--show", action="store_true", help="run nothing: the last run, as a small Markdown table")
    parser.add_argument("--quick", action="store_true", help="one small round, under 3 minutes")
    parser.add_argument("--rounds", type=int, help="instead of 3, or 1 when quick")
    parser.add_argument("--only", default="", help=f"systems, or patterns as 'ours*': {all_systems}")
    parser.add_argument("--loads", default="", help=f"loads: {', '.join(LOADS)}")
    parser.add_argument("--peers", type=Path, default=f"{sys.prefix}-peers", help="the peers' virtual environment")
    parser.add_argument("--sidekiq", type=Path, help="a checkout of Sidekiq")
    options = parser.parse_args()
    try:
        options.systems = systems.chosen(names(options.only))
    except ValueError as error:
        parser.error(str(error))
    options.loads = names(options.loads) or list(LOADS)
    if unknown := [name for name in options.loads if name not in LOADS]:
        parser.error(f"No such load: {', '.join(unknown)}. There are: {', '.join(LOADS)}.")
    return options


def names(listed: str) -> list[str]:
    return [name for name in listed.replace(",", " ").split() if name]


class Run:
    """The servers of a run, and one client for each system, all of them stopped with the stack."""

    def __init__(
        self, options: argparse.Namespace, sizes: Sizes, directory: Path, found: Results, stack: contextlib.ExitStack
    ) -> None:
        self.sizes = sizes
        self.rounds = options.rounds or sizes.rounds
        self.directory = directory
        self.found = found
        self.stack = stack
        self.clients: dict[str, Client] = {}
        database = servers.Database(directory / "postgres")
        stack.callback(database.stop)
        database.start()
        self.valkey = stack.enter_context(servers.Valkey(directory, os.environ))
        self.places = Places(
            python=Path(sys.executable),
            peers=options.peers.absolute() / "bin",
            env=servers.environment(self.valkey.url, database.directory),
            sidekiq=options.sidekiq and options.sidekiq.absolute(),
        )

    def measure(self, chosen: list[System], wanted: list[str]) -> None:
        for name in LOADS:
            if name not in wanted:
                continue
            rounds = 1 if name in ONCE else self.rounds
            for number in range(1, rounds + 1):
                # Every other round goes backwards, so that no system always follows the same neighbour.
                for system in chosen if number % 2 else reversed(chosen):
                    if name in system.loads and self.ready(system):
                        self.once(name, f"{number}/{rounds}", system)

    def ready(self, system: System) -> bool:
        """Whether it can take part; its client runs from now on. Says once why it cannot."""
        if system.name in self.clients:
            return True
        if system.name in self.found.skipped:
            return False
        reason = system.unavailable(self.places)
        if reason is None:
            try:
                self.start(system)
                return True
            except (ClientError, OSError) as error:
                reason = str(error)
        self.found.skipped[system.name] = reason
        print(f"not run: {system.title}: {reason}", flush=True)
        return False

    def start(self, system: System) -> None:
        client = Client(
            system.client(self.places), env=system.env(self.places), log=self.directory / f"{system.name}-client.log"
        )
        self.clients[system.name] = self.stack.enter_context(client)
        self.found.systems[system.name] = client.about

    def once(self, name: str, number: str, system: System) -> None:
        self.valkey.client.flushall()
        bench = Bench(self.places, self.valkey, self.sizes, self.directory, self.clients[system.name])
        what = f"{name} {number} {system.title}"
        try:
            for sample in LOADS[name](bench, system):
                self.found.add(system.name, sample)
                print(f"{what}: {sample.load}: {tables.number(sample.value)} {sample.unit}", flush=True)
        except Exception as error:  # whatever it is, the others' figures are not lost with it
            failure = f"{what}: {type(error).__name__}: {error}"
            self.found.failed.append(failure)
            print(f"FAILED {failure}", flush=True)
            if bench.client.ended():
                del self.clients[system.name]  # the next load gets a new one


def told(found: Results, run: Run, *, quick: bool, stopped: bool, seconds: float) -> None:
    """Print what came out, and keep it."""
    record = found.record(server=run.valkey.version(), quick=quick, stopped=stopped, rounds=run.rounds)
    if rows := found.rows():
        results.write(record)
        print(f"\n{tables.details(rows)}\n\n{tables.compact(record)}\n")
    for name, reason in found.skipped.items():
        print(f"not run: {tables.TITLES[name]}: {reason}")
    for failure in found.failed:
        print(f"FAILED {failure}")
    kept = f"; kept in {results.LATEST.relative_to(ROOT)}, which --show reads" if rows else ""
    print(f"{seconds:.0f} s in all{kept}")


def show() -> int:
    try:
        print(tables.compact(results.read()))
    except FileNotFoundError:
        print(f"There is no {results.LATEST.relative_to(ROOT)} yet: `make bench` writes it.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
