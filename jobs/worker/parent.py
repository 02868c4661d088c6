"""
The parent: it runs no job, has one thread and no database connection, and keeps its children alive, and honest.

It beats for a child only while the kernel says that the child runs, so a job that holds the interpreter's lock for
minutes is not taken for dead, and a child that really is gone is known at once.
"""

import logging
import os
import select
import signal
import time
from collections.abc import Callable, Iterable

from django.db import connections
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from jobs import runtime, scheduler
from jobs.broker import keys
from jobs.broker.connections import get_connection, new_pool
from jobs.errors import ScheduleError
from jobs.recurring.entry import listed
from jobs.scheduler import Scheduler
from jobs.worker import heartbeat, signals
from jobs.worker.child import GRACE
from jobs.worker.children import Children
from jobs.worker.connection import UNREACHABLE, Wire
from jobs.worker.expiry import clean
from jobs.worker.health import Health
from jobs.worker.interruptions import INTERRUPT_GRACE
from jobs.worker.process import Process
from jobs.worker.promotion import Promotion
from jobs.worker.recovery import Held, bury, is_silence, recover
from jobs.worker.release import release
from jobs.worker.remote_commands import Remote
from jobs.worker.rq_maintenance import RqMaintenance
from jobs.worker.settings import WorkerSettings
from jobs.worker.strangers import Strangers
from jobs.worker.supervision import Supervision

logger = logging.getLogger("jobs.worker")

TICK = 0.5  # seconds between looks at what is due and what is paused
LONGEST = 0.1  # seconds that a duty may take in slices: then the parent sees to its children again


class Parent:
    """
    1. starts its children; 2. until it is told to stop: replaces those that die and gives their jobs back, beats,
    promotes due jobs, recovers the jobs of dead workers, passes on signals and RQ's remote commands; 3. stops them.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        """Raises OSError when the port for probes is taken."""
        self._settings = settings
        self._queues = list(settings.queues)
        self._every_queue = list(settings.queues)  # those of other workers too: we promote and recover for all
        self._wire = Wire(self._queues[0], timeout=2)
        self._promotion = Promotion(self._wire)
        self._remote = Remote(self._queues[0])
        self._maintenance = RqMaintenance(self._queues[0])
        client = Redis(connection_pool=new_pool(self._queues[0], socket_timeout=2, socket_connect_timeout=2))
        self._scheduler = Scheduler(connection=client)
        self._synced = False
        self._children = Children(
            settings,
            self._register,
            self._settle,
            forked=lambda: self._supervision.close(),
            has_work=self._has_work,
        )
        self._strangers = Strangers()
        self._health = Health(self._children, settings.processes)
        self._supervision = Supervision(self._health, settings.health_port)
        self._kill_at = float("inf")
        self._told: list[int] = []  # signals that are still to be obeyed
        self._next_tick = self._next_beat = 0.0
        self._away = False

    def run(self) -> int:
        """Live. Returns the exit code: 0 when it was told to stop, or its queues are empty."""
        connections.close_all()  # the children open their own
        blocks = self._wait_for_server()
        wake = self._handle_signals()
        if self._settings.burst:  # what is there to do must be in the queues before a child finds them empty
            self._try(self._recover_patiently)
            self._try(lambda: self._maintenance.run(self._every_queue))
            self._try(lambda: self._promotion.run(self._every_queue))
        while not self._children.are_gone:
            self._children.start_due(blocks=blocks)
            files = [wake, *self._supervision.files(), *self._children.files()]
            readable, _, _ = select.select(files, [], [], self._patience())
            if wake in readable:
                os.read(wake, 4_096)
            self._supervision.serve()
            told, self._told = self._told, []
            for number in told:
                self._obey(number)
            self._children.hear()
            self._children.reap()
            if self._children.are_hopeless:
                self._stop()
            self._do_what_is_due(time.monotonic())
        self._try(self._promotion.end)
        self._try(self._scheduler.remove_lock)
        return 1 if self._children.failed else 0

    def _patience(self) -> float:
        until = min(self._next_tick, self._next_beat, self._kill_at, self._children.next_start())
        return max(0.0, until - time.monotonic())

    def _do_what_is_due(self, now: float) -> None:
        if now >= self._next_tick:
            self._next_tick = now + TICK
            self._try(self._tick)
            self._strangers.reap(process.pid for process in self._children)
        if now >= self._next_beat:
            self._next_beat = now + heartbeat.EVERY
            self._children.judge(since=self._health.answering_since)
            if self._try(self._beat):
                self._health.beaten()
                self._try(self._recover)
            self._supervision.tell()
            self._try(lambda: self._maintenance.run(self._every_queue))
            self._try(lambda: clean(self._wire, self._every_queue))
        if now >= self._kill_at:
            self._children.kill()
            self._kill_at = float("inf")

    # --- for its children ------------------------------------------------------------------------

    def _register(self, process: Process) -> bool:
        return self._try(lambda: self._register_now(process))

    def _register_now(self, process: Process) -> None:
        if self._wire.call("ZSCORE", keys.ALIVE, process.name) is not None:
            process.name = heartbeat.new_life(process.name)  # what an earlier life left behind is a dead worker's
        self._show_paused([process])  # before its first claim
        self._beat_for(process)
        self._remote.listen(process.name)  # before it is listed: whoever finds it there may tell it something
        heartbeat.register(self._wire, process.name, self._queues)

    def _settle(self, process: Process) -> None:
        # If the server is away now, the others find the worker dead in time, and so do we.
        self._try(lambda: self._settle_now(process))

    def _settle_now(self, process: Process) -> None:
        """Give back what a child held: claims not begun were not interrupted, ended ones are not suspect."""
        begun, suspects = process.board.begun(), process.suspects()
        for queue in self._queues:
            self._report(queue, *recover(self._wire, queue, only=process.name, begun=begun, suspects=suspects))
        heartbeat.unregister(self._wire, process.name, self._queues)
        self._remote.forget(process.name)

    def _has_work(self) -> bool:
        """Whether a burst has anything left to do; True when the server does not say."""
        lists = [keys.queue(name) for name in self._queues]
        found = [1]
        self._try(lambda: found.append(self._wire.call("EXISTS", keys.RELEASING, *lists)))
        return found[-1] > 0

    # --- duties ----------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._show_paused(self._children)
        self._promotion.run(self._every_queue)
        self._schedule()
        self._release()
        if self._remote.obey(self._children):
            self._stop()

    def _schedule(self) -> None:
        if self._settings.burst:  # it ends with what is there
            return
        if not self._synced:
            try:
                wrong = scheduler.sync(listed(), only=get_connection(self._queues[0]))
            except ScheduleError as error:
                wrong = [str(error)]
            for sentence in wrong:
                logger.error("%s", sentence)
            self._synced = True
        self._scheduler.tick()

    def _show_paused(self, processes: Iterable[Process]) -> None:
        paused = {name.decode() for name in self._wire.call("SMEMBERS", keys.PAUSED)}
        suspended = bool(self._wire.call("EXISTS", keys.SUSPENDED))  # RQ's `rq suspend` stops all queues
        for process in processes:
            for at, queue in enumerate(self._queues):
                process.board.pause(at, suspended or queue in paused)

    def _beat(self) -> None:
        runtime.hear(self._wire.call("TIME"))
        listed = {keys.name_of(key.decode()) for key in self._wire.call("SMEMBERS", keys.QUEUES)}
        self._every_queue = sorted(listed.union(self._queues))
        running = [process for process in self._children if process.stopped_at is None]
        for process in running:
            self._beat_for(process)
        for process in running:  # after all beats, since a full server refuses this
            if not self._wire.call("SISMEMBER", keys.WORKERS, keys.worker(process.name)):
                # Struck off while we were away, by us or by a reader of RQ's.
                heartbeat.register(self._wire, process.name, self._queues)

    def _beat_for(self, process: Process) -> None:
        pid = process.pid or os.getpid()
        heartbeat.beat(self._wire, process.name, pid, process.born, self._queues, process.board)

    def _recover(self) -> None:
        until = time.monotonic() + LONGEST
        for queue in self._every_queue:
            self._report(queue, *recover(self._wire, queue, until=until))
        if not is_silence(self._wire):
            for name in heartbeat.forgotten(self._wire):
                heartbeat.unregister(self._wire, name.decode(), self._every_queue)

    def _recover_patiently(self) -> None:
        """The same for a burst, which does not live until a silence is over: it waits for the end of one."""
        self._recover()
        while is_silence(self._wire) and not self._told:
            self._supervision.wait(1.0)
            self._recover()  # it is heard meanwhile: the next one must not begin another silence
        self._recover()

    def _release(self) -> None:
        """What a worker that died should have released, as far as that goes in a moment."""
        until = time.monotonic() + LONGEST
        for member in self._wire.call("SRANDMEMBER", keys.RELEASING, 10):
            release(get_connection(self._queues[0]), member.decode(), until)

    def _report(self, queue: str, back: list[Held], dead: list[Held]) -> None:
        for job_id, worker in back:
            message = "interrupted job %s: worker %s is gone; the job is back in its queue"
            logger.warning(message, job_id, worker, extra={"job_id": job_id})
        bury(queue, dead)

    # --- signals, and a server that is away ------------------------------------------------------

    def _handle_signals(self) -> int:
        wake, other_end = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(other_end, False)
        signal.set_wakeup_fd(other_end, warn_on_full_buffer=False)
        signals.handle(signal.SIGCHLD, signals.do_nothing)
        for number in (signal.SIGINT, *signals.PASSED_ON):  # not obeyed at once: a child may be starting just now
            signals.handle(number, lambda number, _: self._told.append(number))
        signals.handle_meaningless(lambda number: self._told.append(number))
        return wake

    def _obey(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop()
        elif number in signals.MEANINGLESS:
            signals.explain(number)
        else:
            self._children.signal(number)

    def _stop(self) -> None:
        if self._kill_at == float("inf"):
            logger.info("stopping: running jobs have %d s to end", GRACE)
            self._kill_at = time.monotonic() + GRACE + INTERRUPT_GRACE
            self._supervision.stop()
            self._children.stop()

    def _try(self, duty: Callable[[], object]) -> bool:
        """A duty that needs the server. Without it the children go on with what they run, and so do we."""
        self._supervision.serve()  # one duty may take seconds while the server hangs, all of them too many
        try:
            duty()
        except (*UNREACHABLE, RedisError) as error:
            self._health.unanswered()
            self._wire.close()
            if not self._away:
                logger.warning("no answer from Redis: %s", error)
            self._away = True
            return False
        self._health.answered()
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
                runtime.hear(self._wire.call("TIME"))
                runtime.now = runtime.server_now
                break
            except (*UNREACHABLE, ResponseError) as error:
                logger.warning("no answer from Redis, waiting for it: %s", error)
                self._wire.close()
                self._supervision.wait(pause)
                pause = min(pause * 2, 5.0)
        blocks = bool(known and known[0])
        if not blocks:
            logger.warning("this Redis has no BLMOVE (it came with 6.2): polling every 50 ms instead of waiting")
        return blocks
