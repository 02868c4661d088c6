"""`python -m benchmarks`: every load, in interleaved pairs (ours, theirs, ours, theirs); then the tables."""

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import bench, pairs, results, servers, systems, tables
from benchmarks.bench import Bench, Sample, Sizes
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
        begun, busy = time.monotonic(), os.getloadavg()[0]
        stopped = False
        try:
            run.measure(options.systems, options.loads)
        except KeyboardInterrupt:
            stopped = True
            print("\nStopped. What was measured so far:")
        record = found.record(
            server=run.valkey.version(),
            quick=options.quick,
            stopped=stopped,
            pairs=run.pairs,
            busy=(busy, os.getloadavg()[0]),
            base=options.base,
        )
        told(record, seconds=time.monotonic() - begun)
    return 130 if stopped else 1 if found.failed else 0


def parse() -> argparse.Namespace:
    all_systems = ", ".join(system.name for system in systems.SYSTEMS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run us and the peers side by side.")
    parser.add_argument("--show", action="store_true", help="run nothing: the last run, as a small Markdown table")
    parser.add_argument("--quick", action="store_true", help="one small pair of each: a smoke test")
    parser.add_argument("--pairs", type=int, help="of each two systems, instead of 5, or 1 when quick")
    parser.add_argument("--base", type=Path, help="another checkout of ours, before a change: compare with it (alone)")
    parser.add_argument("--only", default="", help=f"systems, or patterns as 'ours*': {all_systems}")
    parser.add_argument("--loads", default="", help=f"loads: {', '.join(LOADS)}")
    parser.add_argument("--peers", type=Path, default=f"{sys.prefix}-peers", help="the peers' virtual environment")
    parser.add_argument("--sidekiq", type=Path, help="a checkout of Sidekiq")
    parser.add_argument("--ruby", type=Path, help="a Ruby that has Sidekiq 8 as a gem")
    options = parser.parse_args()
    try:
        options.systems = systems.chosen(names(options.only) or (["ours"] if options.base else []))
    except ValueError as error:
        parser.error(str(error))
    if options.base:
        options.base = options.base.absolute()
        if not (options.base / "jobs").is_dir():
            parser.error(f"There is no checkout of ours in {options.base}.")
        options.systems = systems.with_bases(options.systems)
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
        self.pairs = options.pairs or sizes.pairs
        self.directory = directory
        self.found = found
        self.stack = stack
        self.clients: dict[str, Client] = {}
        database = servers.Database(directory / "postgres")
        stack.callback(database.stop)
        database.start()
        self.valkey = stack.enter_context(servers.Valkey(directory, os.environ))
        stage = directory / "stage"
        stage.mkdir()
        (stage / "benchmarks").symlink_to(ROOT / "benchmarks")
        self.places = Places(
            python=Path(sys.executable),
            peers=options.peers.absolute() / "bin",
            env=servers.environment(self.valkey.url, database.directory),
            sidekiq=options.sidekiq and options.sidekiq.absolute(),
            ruby=options.ruby and options.ruby.absolute(),
            base=options.base,
            stage=stage,
        )

    def measure(self, chosen: list[System], wanted: list[str]) -> None:
        ready = [system for system in chosen if self.ready(system)]
        for name in LOADS:
            if name not in wanted:
                continue
            rounds = 1 if name in ONCE else self.pairs
            for number in range(1, rounds + 1):
                for turn in pairs.turns(ready, name):
                    # Every other time the second goes first, so that none always has the warmer machine.
                    order = turn if number % 2 else turn[::-1]
                    samples = {system.name: self.once(name, f"{number}/{rounds}", system) for system in order}
                    if len(turn) == 2:
                        first, second = (system.name for system in turn)
                        self.found.compare(first, samples[first], second, samples[second])

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
            system.client(self.places),
            env=system.env(self.places),
            log=self.directory / f"{system.name}-client.log",
            folder=system.folder(self.places),
        )
        self.clients[system.name] = self.stack.enter_context(client)
        self.found.systems[system.name] = client.about

    def once(self, name: str, number: str, system: System) -> list[Sample]:
        """The figures of one measurement, as many as there are when it fails."""
        samples: list[Sample] = []
        if not self.ready(system):
            return samples
        self.valkey.client.flushall()
        bench = Bench(self.places, self.valkey, self.sizes, self.directory, self.clients[system.name])
        what = f"{name} {number} {system.title}"
        try:
            for sample in LOADS[name](bench, system):
                samples.append(sample)
                self.found.add(system.name, sample)
                print(f"{what}: {sample.load}: {tables.number(sample.value)} {sample.unit}", flush=True)
        except Exception as error:  # whatever it is, the others' figures are not lost with it
            failure = f"{what}: {type(error).__name__}: {error}"
            self.found.failed.append(failure)
            print(f"FAILED {failure}", flush=True)
            if bench.client.ended():
                del self.clients[system.name]  # the next load gets a new one
        return samples


def told(record: dict[str, Any], *, seconds: float) -> None:
    """Print what came out, and keep it."""
    if record["rows"]:
        results.write(record)
        print(f"\n{tables.details(record)}\n\n{tables.compact(record)}\n")
    for name, reason in record["skipped"].items():
        print(f"not run: {tables.TITLES[name]}: {reason}")
    for failure in record["failed"]:
        print(f"FAILED {failure}")
    kept = f"; kept in {results.LATEST.relative_to(ROOT)}, which --show reads" if record["rows"] else ""
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
