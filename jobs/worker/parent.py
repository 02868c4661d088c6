"""
The parent: it runs no job, has one thread and no database connection, and keeps its children alive, and honest.

It beats for a child only while the kernel says that the child runs, so a job that holds the interpreter's lock for
minutes is not taken for dead, and a child that really is gone is known at once.
"""

import json
import logging
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable

from django.db import connections
from redis import Redis
from redis.exceptions import RedisError, ResponseError
from rq.defaults import RQ_KEY_PREFIX

from jobs.connections import new_pool
from jobs.worker import heartbeat
from jobs.worker.board import Board
from jobs.worker.child import COMEBACK, DONE, GRACE, RECYCLE, Child
from jobs.worker.promotion import Promotion
from jobs.worker.recovery import UNSEEN, recover
from jobs.worker.settings import WorkerSettings
from jobs.worker.wire import UNREACHABLE, Wire

logger = logging.getLogger("jobs.worker")

PREFIX = f"{RQ_KEY_PREFIX}:"
TICK = 0.5  # seconds between looks at what is due and what is paused
OVERDUE = 2 * COMEBACK  # seconds past its time-out after which a job's process cannot be minding itself any more
CALM = 1.0  # seconds before a child that died at once is replaced


class Process:
    """One child as its parent sees it."""

    def __init__(self, name: str, number: int, pid: int, board: Board, control: socket.socket) -> None:
        self.name, self.number, self.pid, self.board, self.control = name, number, pid, board, control
        self.born = time.time()
        self.stopped_at: float | None = None  # since when it is SIGSTOPped (monotonic seconds)
        self.killed = False


class Parent:
    """
    1. starts its children; 2. until it is told to stop: replaces those that die and gives their jobs back, beats,
    promotes due jobs, recovers the jobs of dead workers, passes on signals and RQ's remote commands; 3. stops them.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._first_queue = next(iter(settings.queues))
        self._wire = Wire(self._first_queue, timeout=2)
        self._promotion = Promotion(self._wire)
        self._processes: list[Process] = []
        self._to_start: list[tuple[float, int]] = [(0.0, number) for number in range(settings.processes)]
        self._stopping_since: float | None = None
        self._ended = False
        self._failed = False
        self._every_queue: list[str] = list(settings.queues)
        self._next_tick = self._next_beat = 0.0
        self._client = Redis(connection_pool=new_pool(self._first_queue, socket_timeout=2, socket_connect_timeout=2))
        self._commands = self._client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._away = False

    def run(self) -> int:
        """Live. Returns the exit code: 0 when it was told to stop or its queues are empty."""
        connections.close_all()  # the children open their own
        self._blocks = self._wait_for_server()
        wake = self._handle_signals()
        if self._settings.burst:
            self._try(lambda: self._promotion.run(self._every_queue))
        while not self._ended:
            self._start_children()
            readable, _, _ = select.select([wake], [], [], self._patience())
            if readable:
                os.read(wake, 4_096)
            self._reap()
            now = time.monotonic()
            if now >= self._next_tick:
                self._next_tick = now + TICK
                self._try(self._tick)
            if now >= self._next_beat:
                self._next_beat = now + heartbeat.EVERY
                self._judge(now)
                self._try(self._beat)
                self._try(self._recover)
            self._stop_overdue(now)
            self._ended = not self._processes and (not self._to_start or self._stopping_since is not None)
        self._try(self._promotion.end)
        return 1 if self._failed else 0

    # --- children --------------------------------------------------------------------------------

    def _start_children(self) -> None:
        now = time.monotonic()
        due = [number for at, number in self._to_start if at <= now]
        self._to_start = [(at, number) for at, number in self._to_start if at > now]
        for number in due:
            if self._stopping_since is None and not self._start(number):
                self._to_start.append((now + CALM, number))

    def _start(self, number: int) -> bool:
        """Register a new child, then fork it: nothing may be claimed under a name that is not registered."""
        name = heartbeat.new_name(self._settings.name, number, self._settings.processes)
        board = Board(self._settings.concurrency)
        process = Process(name, number, os.getpid(), board, *socket.socketpair()[:1])
        ours, theirs = socket.socketpair()
        process.control = ours
        if not self._try(lambda: self._register(process)):
            return False
        sys.stdout.flush()
        sys.stderr.flush()
        process.pid = os.fork()
        if process.pid == 0:
            ours.close()
            os._exit(self._become_child(name, board, theirs))
        theirs.close()
        self._processes.append(process)
        logger.info("worker %s started, pid %d, %d threads", name, process.pid, self._settings.concurrency)
        return True

    def _become_child(self, name: str, board: Board, control: socket.socket) -> int:
        try:
            for process in self._processes:
                process.control.close()
            return Child(self._settings, name, board, control, blocks=self._blocks).run()
        except BaseException:
            traceback.print_exc()
            return 1
        finally:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()

    def _register(self, process: Process) -> None:
        self._beat_for(process)
        heartbeat.register(self._wire, process.name, self._settings.queues)
        self._commands.subscribe(f"{PREFIX}pubsub:{process.name}")

    def _reap(self) -> None:
        for process in list(self._processes):
            pid, status = os.waitpid(process.pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            if pid == 0:
                continue
            if os.WIFSTOPPED(status):
                process.stopped_at = time.monotonic()
            elif os.WIFCONTINUED(status):
                process.stopped_at = None
            else:
                self._bury(process, os.waitstatus_to_exitcode(status))

    def _bury(self, process: Process, code: int) -> None:
        """A child is gone: give back at once what it held, and start another if it was not meant to go."""
        self._processes.remove(process)
        process.control.close()
        if code not in (DONE, RECYCLE):
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            logger.error("worker %s (pid %d) %s", process.name, process.pid, how)
            self._failed = self._failed or (self._settings.burst and code > 0)
        # If the server is away now, the others find the worker dead in time, and so do we.
        self._try(lambda: self._settle(process))
        if self._stopping_since is None and not (code == DONE or (self._settings.burst and code > 0)):
            soon = time.time() - process.born < CALM
            self._to_start.append((time.monotonic() + (CALM if soon else 0.0), process.number))

    def _settle(self, process: Process) -> None:
        interrupted = [job.execution for job in process.board.running()]
        for queue in self._settings.queues:
            # First what it had claimed and not begun, which is no interruption, then the rest.
            recover(self._wire, queue, only=process.name, counts=False, kept=interrupted)
            self._report(*recover(self._wire, queue, only=process.name))
        heartbeat.unregister(self._wire, process.name, self._settings.queues)
        self._commands.unsubscribe(f"{PREFIX}pubsub:{process.name}")

    # --- duties ----------------------------------------------------------------------------------

    def _tick(self) -> None:
        paused = {name.decode() for name in self._wire.call("SMEMBERS", "jobs:paused")}
        suspended = bool(self._wire.call("EXISTS", f"{PREFIX}suspended"))  # RQ's `rq suspend` stops all queues
        for at, queue in enumerate(self._settings.queues):
            for process in self._processes:
                process.board.pause(at, suspended or queue in paused)
        self._promotion.run(self._every_queue)
        while (message := self._commands.get_message(timeout=0)) is not None:
            self._obey(message)

    def _beat(self) -> None:
        self._every_queue = sorted(
            {key.decode().removeprefix(f"{PREFIX}queue:") for key in self._wire.call("SMEMBERS", f"{PREFIX}queues")}
            | self._settings.queues.keys()
        )
        for process in self._processes:
            if process.stopped_at is None:
                self._register_again_if_struck_off(process)
                self._beat_for(process)

    def _beat_for(self, process: Process) -> None:
        heartbeat.beat(self._wire, process.name, process.pid, process.born, self._settings.queues, process.board)

    def _register_again_if_struck_off(self, process: Process) -> None:
        if self._wire.call("ZSCORE", "jobs:workers", process.name) is None:
            heartbeat.register(self._wire, process.name, self._settings.queues)

    def _recover(self) -> None:
        for queue in self._every_queue:
            self._report(*recover(self._wire, queue))
        self._wire.call("ZREMRANGEBYSCORE", "jobs:workers", "-inf", time.time() - 24 * 3_600)

    def _report(self, back: list[tuple[str, str]], dead: list[tuple[str, str]]) -> None:
        for job_id, worker in back:
            logger.warning("interrupted job %s: worker %s died; the job is back in its queue", job_id, worker)
        for job_id, worker in dead:
            logger.error("dead: job %s: poison, interrupted too often, last on worker %s", job_id, worker)

    def _judge(self, now: float) -> None:
        """Kill children that cannot be minding themselves any more."""
        for process in self._processes:
            if process.killed:
                continue
            overdue = [job for job in process.board.running() if job.deadline + OVERDUE < now]
            if overdue:
                logger.error("worker %s: job %s is far past its time-out; killing", process.name, overdue[0].job_id)
            elif process.stopped_at is not None and now - process.stopped_at > UNSEEN:
                logger.error("worker %s has been stopped for %d s; killing it", process.name, UNSEEN)
            else:
                continue
            process.killed = True
            os.kill(process.pid, signal.SIGKILL)

    def _obey(self, message: dict[str, object]) -> None:
        """RQ's remote commands: shutdown, stop-job, stop-execution, kill-horse."""
        try:
            channel = message["channel"].decode()  # type: ignore[attr-defined]
            command = json.loads(message["data"])  # type: ignore[arg-type]
            name = channel.removeprefix(f"{PREFIX}pubsub:")
            process = next(process for process in self._processes if process.name == name)
            if command["command"] == "shutdown":
                self._stop()
            elif command["command"] in {"stop-job", "stop-execution"}:
                process.control.send(f"stop {command['job_id']}\n".encode())
            else:
                logger.warning("no such thing here: the remote command %r", command["command"])
        except (StopIteration, KeyError, ValueError, AttributeError, TypeError):
            logger.warning("unreadable remote command: %r", message)

    # --- signals and the end ---------------------------------------------------------------------

    def _handle_signals(self) -> int:
        wake, other_end = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(other_end, False)
        signal.set_wakeup_fd(other_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        for number in (signal.SIGTSTP, signal.SIGTTIN):
            signal.signal(number, self._pass_on)
        return wake

    def _pass_on(self, number: int, frame: object) -> None:
        for process in self._processes:
            os.kill(process.pid, number)

    def _stop(self) -> None:
        if self._stopping_since is None:
            logger.info("stopping: running jobs have %d s to end", GRACE)
            self._stopping_since = time.monotonic()
            self._pass_on(signal.SIGTERM, None)

    def _stop_overdue(self, now: float) -> None:
        if self._stopping_since is not None and now - self._stopping_since > GRACE + COMEBACK:
            self._pass_on(signal.SIGKILL, None)

    def _patience(self) -> float:
        until = (
            min(self._next_tick, self._next_beat, *(at for at, _ in self._to_start))
            if self._to_start
            else min(self._next_tick, self._next_beat)
        )
        return max(0.0, until - time.monotonic())

    def _try(self, duty: Callable[[], object]) -> bool:
        """A duty that needs the server; without it children go on with what they run, and so do we."""
        try:
            duty()
        except (*UNREACHABLE, RedisError) as error:
            self._wire.close()
            if not self._away:
                logger.warning("no answer from Redis: %s", error)
            self._away = True
            return False
        if self._away:
            logger.warning("Redis answers again")
        self._away = False
        return True

    def _wait_for_server(self) -> bool:
        """Whether the server knows BLMOVE (6.2 and newer). Waits until there is one to ask."""
        pause = 0.1
        while True:
            try:
                known = self._wire.call("COMMAND", "INFO", "BLMOVE")
                break
            except (*UNREACHABLE, ResponseError) as error:
                logger.warning("no answer from Redis, waiting for it: %s", error)
                self._wire.close()
                time.sleep(pause)
                pause = min(pause * 2, 5.0)
        blocks = bool(known and known[0])
        if not blocks:
            logger.warning("this Redis has no BLMOVE (it came with 6.2): polling every 50 ms instead of waiting")
        return blocks
