"""
The systems, as the benchmark sees them from outside: how a client and a worker are started, and where jobs wait.

What a job is and how it is enqueued stands in `benchmarks.clients`, one module a system.
"""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import ClassVar

from redis import Redis

from benchmarks.processes import ROOT
from config.queues import QUEUES

DRAIN = "drain"
TWO_PROCESSES = "two"
ENQUEUE = "enqueue"
BULK = "bulk"
WAITING = "io"
ORM = "orm"
LATENCY = "latency"
PRIORITY = "critical"
FAR = "far"
MIXED = "mixed"
SCHEDULED = "scheduled"
LONG_RUN = "memory"
EACH_QUEUE = "queues"

PEERS_SETTINGS = "benchmarks.clients.settings"


@dataclass(frozen=True)
class Places:
    """The interpreters of a run and what its processes find in their environment."""

    python: Path
    peers: Path
    env: Mapping[str, str]
    sidekiq: Path | None = None
    #: A Ruby that has Sidekiq 8 as a gem.
    ruby: Path | None = None
    #: Another checkout of ours, and a folder in which this one's `benchmarks` stand beside it.
    base: Path | None = None
    stage: Path = ROOT


@dataclass(frozen=True)
class System:
    """
    One system, in one way of running it. Subclasses are the systems, `options` the ways.

    `pace` is about how many no-op jobs a second one process does on one's own machine. It sizes the loads, so that
    each takes about as long for every system, and decides nothing else.
    """

    #: Its module in `benchmarks.clients`.
    module: ClassVar[str]
    #: The Django settings that it always runs with; others load Django only where the jobs need it.
    settings: ClassVar[str | None] = None
    #: Whether it is this checkout.
    is_ours: ClassVar[bool] = False
    #: Whether its client can enqueue many jobs at once.
    bulk: ClassVar[bool] = False
    #: Where jobs wait for a worker, a list (* is the queue), and for their time, a sorted set.
    queue_key: ClassVar[str]
    schedule_key: ClassVar[str]
    #: Where it notes the jobs that a worker has taken and not finished; None when it does not.
    taken_key: ClassVar[str | None] = None
    taken_count: ClassVar[str] = "ZCARD"

    name: str
    title: str
    pace: int
    loads: frozenset[str]
    #: How many jobs a process of it runs at once; None: as many as it is told.
    slots: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def job(self, name: str) -> str:
        """This system's name of a job, where a way of running it is a different job."""
        return name

    def unavailable(self, places: Places) -> str | None:
        """Why it cannot be run here, beyond what its client says when it starts; None when it can."""
        return None

    def folder(self, places: Places) -> Path:
        """Where its processes run."""
        return ROOT

    def env(self, places: Places, *, django: bool = False) -> dict[str, str]:
        """The environment of its processes; `django`: the jobs use the ORM."""
        settings = self.settings or (PEERS_SETTINGS if django else None)
        return {**places.env} | ({"DJANGO_SETTINGS_MODULE": settings} if settings else {})

    def client(self, places: Places) -> list[str]:
        """The command of the process that enqueues."""
        return [str(places.peers / "python"), "-m", "benchmarks.client", self.module]

    def workers(self, places: Places, processes: int, threads: int, queues: Sequence[str]) -> list[list[str]]:
        """The commands that start its workers: one that knows of processes, or one each."""
        raise NotImplementedError

    def waiting(self, redis: Redis, queue: str) -> int:
        """How many jobs no worker has taken yet."""
        return int(redis.llen(self.queue_key.replace("*", queue)))

    def unfinished(self, redis: Redis) -> int:
        """How many jobs are not done, as far as the system tells. Taken ones count: prefetching is no work."""
        if self.taken_key is None:
            return self.waiting(redis, "default")
        with redis.pipeline() as pipeline:
            pipeline.llen(self.queue_key.replace("*", "default"))
            pipeline.execute_command(self.taken_count, self.taken_key)
            return sum(pipeline.execute())

    def scheduled(self, redis: Redis) -> int:
        """How many jobs wait for their time."""
        return int(redis.zcard(self.schedule_key))


class Ours(System):
    module = "ours"
    is_ours = True
    bulk = True
    settings = "benchmarks.settings"
    queue_key = "rq:queue:*"
    schedule_key = "rq:scheduled:default"
    taken_key = "rq:wip:default"

    def job(self, name: str) -> str:
        return f"{name}_kept" if self.options.get("kept") and name == "noop" else name

    def env(self, places: Places, *, django: bool = False) -> dict[str, str]:
        batch = {"JOBS_BATCH": "1"} if self.options.get("fair") else {}
        return super().env(places, django=django) | batch

    def client(self, places: Places) -> list[str]:
        return [str(places.python), "-m", "benchmarks.client", self.module]

    def workers(self, places: Places, processes: int, threads: int, queues: Sequence[str]) -> list[list[str]]:
        # All five queues are listed, as in production, whatever the load.
        worker = [str(places.python), "-m", "django", "rqworker", *QUEUES]
        return [[*worker, "--processes", str(processes), "--concurrency", str(threads)]]


class Base(Ours):
    """Another checkout of ours, before a change, measured by this one's benchmarks."""

    is_ours = False

    def unavailable(self, places: Places) -> str | None:
        return None if places.base else "no other checkout was given (--base PATH)"

    def folder(self, places: Places) -> Path:
        return places.stage

    def env(self, places: Places, *, django: bool = False) -> dict[str, str]:
        return super().env(places, django=django) | {"PYTHONPATH": f"{places.stage}:{places.base}"}


class StockRQ(System):
    module = "rq"
    bulk = True
    queue_key = "rq:queue:*"
    schedule_key = "rq:scheduled:default"
    taken_key = "rq:wip:default"

    def workers(self, places: Places, processes: int, threads: int, queues: Sequence[str]) -> list[list[str]]:
        worker = [str(places.peers / "rq"), "worker", "--logging_level", "WARNING", "--with-scheduler"]
        worker += ["--url", places.env["REDIS_URL"], "--worker-class", self.options["worker"], *queues]
        return [worker] * processes


class Huey(System):
    module = "huey"
    # It takes all due jobs out of its schedule, then enqueues them one by one: from outside nobody can tell when they
    # are in their queue, so it has no part in that load.
    queue_key = "huey.redis.bench"

    def workers(self, places: Places, processes: int, threads: int, queues: Sequence[str]) -> list[list[str]]:
        worker = [str(places.peers / "huey_consumer"), "benchmarks.clients.huey.huey", "--quiet"]
        worker += ["--worker-type", "thread", "--workers", str(threads), "--graceful-signal", "TERM"]
        return [worker] * processes


class Dramatiq(System):
    module = "dramatiq"
    queue_key = "dramatiq:default"

    def env(self, places: Places, *, django: bool = False) -> dict[str, str]:
        # By default it holds twice as many messages as it has threads; with more it need not look so often.
        return super().env(places, django=django) | {"dramatiq_queue_prefetch": "100"}

    def unfinished(self, redis: Redis) -> int:
        return int(redis.hlen("dramatiq:default.msgs"))

    def workers(self, places: Places, processes: int, threads: int, queues: Sequence[str]) -> list[list[str]]:
        # Without its own set-up of logging the root logger's level holds: WARNING.
        worker = [str(places.peers / "dramatiq"), "benchmarks.clients.dramatiq", "--skip-logging"]
        return [[*worker, "--processes", str(processes), "--threads", str(threads)]]


class Celery(System):
    module = "celery"
    queue_key = "celery"
    taken_key = "unacked"
    taken_count = "HLEN"

    def workers(self, places: Places, processes: int, threads: int, queues: Sequence[str]) -> list[list[str]]:
        worker = [str(places.peers / "celery"), "--app", "benchmarks.clients.celery", "worker"]
        worker += ["--loglevel", "WARNING", "--without-gossip", "--without-mingle"]
        if self.options["pool"] == "prefork":
            return [[*worker, "--pool", "prefork", "--concurrency", str(processes)]]
        worker += ["--pool", "threads", "--concurrency", str(threads)]
        return [[*worker, "--hostname", f"{number}@bench"] for number in range(processes)]


class Taskiq(System):
    module = "taskiq"
    queue_key = "taskiq"

    def workers(self, places: Places, processes: int, threads: int, queues: Sequence[str]) -> list[list[str]]:
        worker = [str(places.peers / "taskiq"), "worker", "benchmarks.clients.taskiq:broker", "--log-level", "WARNING"]
        worker += ["--max-async-tasks", str(threads), "--max-threadpool-threads", str(threads)]
        return [[*worker, "--workers", str(processes)]]


class VTasks(System):
    module = "vtasks"
    bulk = True
    settings = PEERS_SETTINGS
    queue_key = "{vt}:q:default"
    schedule_key = "{vt}:sched:default"

    def unavailable(self, places: Places) -> str | None:
        missing = _told([str(places.peers / "python"), "-c", "import django_vtasks"], places.env).returncode
        return "it needs Python 3.12 or newer" if missing else None

    def workers(self, places: Places, processes: int, threads: int, queues: Sequence[str]) -> list[list[str]]:
        worker = [str(places.peers / "python"), "-m", "django", "runworker", "--concurrency", str(threads)]
        return [worker] * processes


class Sidekiq(System):
    """
    Started from a checkout. `ruby` must find its gems, installed or by RUBYLIB: docs/benchmarks.md tells how.

    With the option "gem" it is that of the Ruby that the run was given.
    """

    module = "sidekiq"
    bulk = True
    queue_key = "queue:*"
    schedule_key = "schedule"

    def unavailable(self, places: Places) -> str | None:
        is_gem = "gem" in self.options
        if is_gem and places.ruby is None:
            return "no Ruby was given (RUBY=path)"
        if not is_gem and places.sidekiq is None:
            return "no checkout was given (SIDEKIQ=path)"
        if not is_gem and not (places.sidekiq / "bin" / "sidekiq").exists():
            return f"there is no Sidekiq in {places.sidekiq}"
        if shutil.which(self._ruby(places)[0]) is None:
            return f"there is no {places.ruby}" if is_gem else "no ruby is installed"
        if self.options.get("yjit") and _told([*self._ruby(places), "--yjit", "-e", "1"], self.env(places)).returncode:
            return "this Ruby has no YJIT"
        loaded = _told([*self._ruby(places), "-e", 'require "sidekiq"; puts Sidekiq::VERSION'], self.env(places))
        if loaded.returncode:
            error = loaded.stderr.splitlines()[0].rpartition("': ")[2]
            return f"it does not load: {error}"
        if is_gem and int(loaded.stdout.partition(".")[0]) < 8:
            return f"that Ruby has Sidekiq {loaded.stdout.strip()}, not 8"
        return None

    def _ruby(self, places: Places) -> list[str]:
        return [str(places.ruby)] if "gem" in self.options else ["ruby", "-I", f"{places.sidekiq}/lib"]

    def env(self, places: Places, *, django: bool = False) -> dict[str, str]:
        # RUBYLIB is that of the other Ruby.
        env = {name: value for name, value in places.env.items() if "gem" not in self.options or name != "RUBYLIB"}
        if not self.options.get("yjit"):
            return env
        # 64 MB for compiled code, far more than it needs: Ruby 3.1 would fill 256 MB at once.
        wanted = f"{env.get('RUBYOPT', '')} --yjit --yjit-exec-mem-size=64"
        return {**env, "RUBYOPT": wanted.strip()}

    def client(self, places: Places) -> list[str]:
        return [*self._ruby(places), "benchmarks/clients/sidekiq.rb"]

    def workers(self, places: Places, processes: int, threads: int, queues: Sequence[str]) -> list[list[str]]:
        program = ["-e", 'load Gem.bin_path("sidekiq", "sidekiq")', "--"]
        worker = [*self._ruby(places), *(program if "gem" in self.options else [f"{places.sidekiq}/bin/sidekiq"])]
        worker += ["--require", "./benchmarks/clients/sidekiq.rb", "--concurrency", str(threads)]
        for queue in queues:
            worker += ["--queue", queue]
        return [worker] * processes


_SINGLE = frozenset((DRAIN, TWO_PROCESSES, ENQUEUE, WAITING, ORM, LATENCY, FAR))
_ALL = _SINGLE | {BULK, PRIORITY, SCHEDULED}
_SIDEKIQ = _ALL - {ORM} | {MIXED}
_NOOP = frozenset((DRAIN, TWO_PROCESSES))
_FAIR = {"fair": "yes"}
_KEPT = {"kept": "yes"}
_YJIT = {"yjit": "yes"}
_GEM = {"gem": "yes"}

# fmt: off
SYSTEMS: tuple[System, ...] = (
    Ours("ours", "ours", 25_000, _ALL | {MIXED, EACH_QUEUE, LONG_RUN}),
    Ours("ours-kept", "ours, results kept", 18_000, _NOOP, options=_KEPT),
    Ours("ours-fair", "ours, fair claims", 20_000, _NOOP, options=_FAIR),
    Ours("ours-fair-kept", "ours, fair claims, results kept", 15_000, _NOOP, options=_FAIR | _KEPT),
    Sidekiq("sidekiq", "Sidekiq", 18_000, _SIDEKIQ),
    Sidekiq("sidekiq-yjit", "Sidekiq, YJIT", 27_000, _SIDEKIQ, options=_YJIT),
    Sidekiq("sidekiq-8", "Sidekiq 8", 18_000, _SIDEKIQ, options=_GEM),
    Sidekiq("sidekiq-8-yjit", "Sidekiq 8, YJIT", 27_000, _SIDEKIQ, options=_GEM | _YJIT),
    Huey("huey", "huey", 5_000, _SINGLE | {MIXED}),
    Dramatiq("dramatiq", "dramatiq", 6_000, _SINGLE | {MIXED}),
    Taskiq("taskiq", "taskiq", 3_500, _SINGLE | {MIXED}),
    VTasks("vtasks", "django-vtasks", 4_500, _ALL | {MIXED}),
    Celery("celery-threads", "celery, threads", 1_000, _SINGLE, options={"pool": "threads"}),
    Celery("celery-prefork", "celery, prefork", 900, _NOOP, slots=1, options={"pool": "prefork"}),
    StockRQ("rq-simple", "RQ, SimpleWorker", 400, _ALL, slots=1, options={"worker": "rq.SimpleWorker"}),
    StockRQ("rq-fork", "RQ, Worker", 80, _NOOP | {LATENCY, FAR}, slots=1, options={"worker": "rq.Worker"}),
)
# fmt: on


#: What `--base` measures beside ours: the same ways of running it.
BASES = tuple(
    Base(system.name.replace("ours", "base"), system.title.replace("ours", "base"), system.pace, system.loads,
         options=system.options)
    for system in SYSTEMS if system.is_ours
)  # fmt: skip
TITLES = {system.name: system.title for system in (*SYSTEMS, *BASES)}


def chosen(names: Sequence[str]) -> list[System]:
    """The systems of these names, which may be patterns as `ours*`. ValueError for one that nothing matches."""
    for name in names:
        if not any(fnmatchcase(system.name, name) for system in SYSTEMS):
            raise ValueError(f"No such system: {name}. There are: {', '.join(s.name for s in SYSTEMS)}.")
    return [system for system in SYSTEMS if not names or any(fnmatchcase(system.name, name) for name in names)]


def with_bases(systems: Sequence[System]) -> list[System]:
    """These, and beside each of ours the base that runs in the same way."""
    ways = [system.options for system in systems if system.is_ours]
    return [*systems, *(base for base in BASES if base.options in ways)]


def _told(command: list[str], env: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
