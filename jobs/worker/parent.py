"""
The parent: it runs no job, has one thread and no database connection, and supervises its children.

It beats for a child only while the kernel reports that the child runs, so a job that holds the interpreter's lock for
minutes does not count as dead, and a child that is gone is noticed at once.
"""

import os
import select
import signal
import time
from collections.abc import Iterable

from django.db import connections
from redis import Redis
from redis.exceptions import ResponseError

from jobs import runtime
from jobs.broker import keys
from jobs.broker.connections import get_connection, new_pool
from jobs.broker.times import as_text
from jobs.inspection.version import release
from jobs.limits import control as limits
from jobs.safe_logging import safe_logger
from jobs.scheduler import Scheduler
from jobs.worker import heartbeat, pauses, signals
from jobs.worker.batches import BatchSweep
from jobs.worker.child import GRACE
from jobs.worker.children import Children
from jobs.worker.collection import Collection
from jobs.worker.connection import UNREACHABLE, Wire
from jobs.worker.duties import Duties
from jobs.worker.expiry import clean
from jobs.worker.health import Health
from jobs.worker.interruptions import INTERRUPT_GRACE
from jobs.worker.process import Process
from jobs.worker.promotion import Promotion
from jobs.worker.recovery import Held, bury, is_silence, recover
from jobs.worker.release import release_the_left
from jobs.worker.remote_commands import Remote
from jobs.worker.rq_maintenance import RqMaintenance
from jobs.worker.settings import WorkerSettings
from jobs.worker.settling import Settling
from jobs.worker.strangers import Strangers
from jobs.worker.supervision import Supervision

logger = safe_logger("jobs.worker")

TICK = 0.5  # seconds between checks for due jobs and paused queues
LONGEST = 0.1  # seconds that a duty may take in slices, after which the parent serves its children again


class Parent:
    """
    1. starts its children; 2. until it stops: replaces those that die and gives their jobs back, beats, promotes due
    jobs, recovers the jobs of dead workers, collects the figures, passes on signals and RQ's remote commands; 3. stops
    its children.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        """Raises OSError if the port for probes is taken."""
        self._settings = settings
        self._queues = list(settings.queues)
        self._every_queue = list(settings.queues)  # those of other workers, too, for promotion and recovery
        self._wire = Wire(self._queues[0], timeout=2)
        self._promotion = Promotion(self._wire)
        self._collection = Collection(self._queues[0], self._wire)
        self._batches = BatchSweep(self._wire, get_connection(self._queues[0]))
        self._remote = Remote(self._queues[0])
        self._maintenance = RqMaintenance(self._queues[0])
        client = Redis(connection_pool=new_pool(self._queues[0], socket_timeout=2, socket_connect_timeout=2))
        self._scheduler = Scheduler(self._queues[0], connection=client)
        self._children = Children(
            settings,
            self._register,
            self._settle,
            forked=lambda: self._supervision.close(),
            has_work=self._has_work,
        )
        self._settling = Settling(self._wire, self._queues, self._report, self._remote.forget)
        self._strangers = Strangers()
        self._health = Health(self._children, settings.processes)
        self._supervision = Supervision(self._health, settings.health_port)
        self._duties = Duties(self._wire, self._health, self._supervision)
        self._kill_at = float("inf")
        self._received: list[int] = []  # signals that are still to be obeyed
        self._next_tick = self._next_beat = 0.0
        self._often = (
            lambda: self._show_paused(self._children),
            lambda: self._promotion.run(self._every_queue),
            self._schedule,
            self._release,
            self._obey_remote,
            self._collection.run,
            self._batches.run,
        )

    def run(self) -> int:
        """Run the worker. Returns the exit code: 0 if it was stopped, or its queues are empty."""
        connections.close_all()  # the children open their own
        blocks = self._wait_for_server()
        wake = self._handle_signals()
        self._duties.one(lambda: limits.publish(get_connection(self._queues[0]), release()))
        self._duties.one(lambda: pauses.follow(self._wire, ()))
        if self._settings.burst:  # fill the queues before a child can find them empty
            self._duties.one(self._recover_patiently)
            self._duties.one(lambda: self._maintenance.run(self._every_queue))
            self._duties.one(lambda: self._promotion.run(self._every_queue))
        while not self._children.are_gone:
            self._children.start_due(blocks=blocks)
            files = [wake, *self._supervision.files(), *self._children.files()]
            readable, _, _ = select.select(files, [], [], self._patience())
            if wake in readable:
                os.read(wake, 4_096)
            self._supervision.serve()
            received, self._received = self._received, []
            for number in received:
                self._obey(number)
            self._children.hear()
            self._children.reap()
            if self._children.are_hopeless:
                self._stop()
            self._do_what_is_due(time.monotonic())
        if self._settings.burst:
            self._duties.one(self._tell_what_stays)
        self._duties.one(self._promotion.end)
        self._duties.one(self._scheduler.end)
        return 1 if self._children.failed else 0

    def _patience(self) -> float:
        until = min(self._next_tick, self._next_beat, self._kill_at, self._children.next_start())
        return max(0.0, until - time.monotonic())

    def _do_what_is_due(self, now: float) -> None:
        if now >= self._next_tick:
            self._next_tick = now + TICK
            self._duties.all(*self._often)
            self._strangers.reap(process.pid for process in self._children)
        if now >= self._next_beat:
            self._next_beat = now + heartbeat.EVERY
            self._children.judge(since=self._health.answering_since)
            if self._duties.one(self._beat):
                self._health.beaten()
                self._duties.one(self._recover)
            self._supervision.report()
            self._duties.all(
                lambda: self._maintenance.run(self._every_queue), lambda: clean(self._wire, self._every_queue)
            )
        if now >= self._kill_at:
            self._children.kill()
            self._kill_at = float("inf")

    # --- for its children ------------------------------------------------------------------------

    def _register(self, process: Process) -> bool:
        return self._duties.one(lambda: self._register_now(process))

    def _register_now(self, process: Process) -> None:
        self._show_paused([process])  # before its first claim
        process.name = heartbeat.take_name(self._wire, process.name)
        if self._remote.listen(process.name):  # before it is listed: a command may be sent at once
            self._remote.forget(process.name)
            heartbeat.unregister(self._wire, process.name, ())
            process.name = heartbeat.take_name(self._wire, heartbeat.new_life(process.name))
            self._remote.listen(process.name)
        self._beat_for(process)
        heartbeat.register(self._wire, process.name, self._queues)

    def _settle(self, process: Process) -> bool:
        was_done = self._settling.is_done
        return self._duties.one(lambda: self._settling.settle(process)) and was_done

    def _has_work(self) -> bool:
        """Whether a burst has work left, also jobs that have just become due; True if the server does not answer."""
        self._duties.one(lambda: self._promotion.run(self._every_queue))
        lists, counts = [keys.queue(name) for name in self._queues], [1]
        self._duties.one(lambda: counts.append(self._wire.call("EXISTS", keys.RELEASING, keys.LINKING, *lists)))
        return counts[-1] > 0

    def _tell_what_stays(self) -> None:
        suspended = self._wire.call("EXISTS", keys.SUSPENDED)
        paused = {as_text(name) for name in self._wire.read("SMEMBERS", keys.PAUSED)}
        for name in self._queues:
            if (suspended or name in paused) and self._wire.call("EXISTS", keys.queue(name)):
                why = "all queues are suspended" if suspended else "it is paused"
                logger.warning("jobs stay in the queue %s: %s", name, why)

    # --- duties ----------------------------------------------------------------------------------

    def _obey_remote(self) -> None:
        if self._remote.obey(self._children):
            self._stop()

    def _schedule(self) -> None:
        if self._settings.burst:  # it runs only the jobs that exist
            return
        for sentence in self._scheduler.follow():
            logger.error("%s", sentence)
        self._scheduler.tick()

    def _show_paused(self, processes: Iterable[Process]) -> None:
        paused = {as_text(name) for name in self._wire.read("SMEMBERS", keys.PAUSED)}
        suspended = bool(self._wire.call("EXISTS", keys.SUSPENDED))  # RQ's `rq suspend` stops all queues
        for process in processes:
            for at, queue in enumerate(self._queues):
                process.board.pause(at, suspended or queue in paused)
        pauses.follow(self._wire, processes)

    def _beat(self) -> None:
        runtime.measure(self._wire.call("TIME"))
        listed = {keys.name_of(as_text(key)) for key in self._wire.read("SMEMBERS", keys.QUEUES)}
        self._every_queue = sorted(listed.union(self._queues))
        running = [process for process in self._children if process.stopped_at is None]
        for process in running:
            self._beat_for(process)
        for process in running:  # after all beats, since a full server refuses this
            # It may have been removed from the lists while this worker was silent, by a worker or by RQ's own clean-up.
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
                heartbeat.unregister(self._wire, name, self._every_queue)

    def _recover_patiently(self) -> None:
        """The same for a burst, which may end before a silence does: it waits for the end of the silence."""
        self._recover()
        while is_silence(self._wire) and not self._received:
            self._supervision.wait(1.0)
            self._recover()  # it counts as a sign of life: the next recovery must not begin another silence
        self._recover()

    def _release(self) -> None:
        """Release what dead processes left, for LONGEST at most; the rest in the next turn, which follows at once."""
        until = time.monotonic() + LONGEST
        release_the_left(self._wire, get_connection(self._queues[0]), until)
        self._next_tick = 0.0 if time.monotonic() > until else self._next_tick

    def _report(self, queue: str, back: list[Held], dead: list[Held]) -> None:
        for job_id, worker in back:
            message = "interrupted job %s: worker %s is gone; the job is back in its queue"
            logger.warning(message, job_id, worker, extra={"job_id": job_id})
        bury(queue, dead)

    # --- signals and outages ---------------------------------------------------------------------

    def _handle_signals(self) -> int:
        wake, other_end = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(other_end, False)
        signal.set_wakeup_fd(other_end, warn_on_full_buffer=False)
        signals.handle(signal.SIGCHLD, signals.do_nothing)
        for number in (signal.SIGINT, *signals.PASSED_ON):  # not obeyed at once: a child may be starting just now
            signals.handle(number, lambda number, _: self._received.append(number))
        signals.handle_meaningless(lambda number: self._received.append(number))
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

    def _wait_for_server(self) -> bool:
        """Wait for the server. Returns whether it has BLMOVE (6.2 and newer)."""
        pause = 0.1
        while True:
            try:
                info = self._wire.call("COMMAND", "INFO", "BLMOVE")
                runtime.measure(self._wire.call("TIME"))
                runtime.now = runtime.server_now
                break
            except (*UNREACHABLE, ResponseError) as error:
                logger.warning("no answer from Redis, waiting for it: %s", error)
                self._wire.close()
                self._supervision.wait(pause)
                pause = min(pause * 2, 5.0)
        if info and info[0]:
            return True
        logger.warning("this Redis has no BLMOVE (it came with 6.2): polling every 50 ms instead of waiting")
        return False
