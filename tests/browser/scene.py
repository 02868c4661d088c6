"""A product in the middle of its day: what the pages and the screenshots show."""

import random
import time
from contextlib import suppress
from datetime import timedelta

from django.utils import timezone

from jobs import Batch, Workflow, control, queues, scheduler
from jobs.broker.connections import get_connection
from jobs.client.new_job import new_job
from jobs.errors import ChangeRefusedError
from jobs.inspection import activity, counts
from jobs.inspection.activity import Change
from jobs.job import JobState
from jobs.models import Unsent
from jobs.outbox import rows
from jobs.record import packed
from jobs.scheduler import Entry
from tests.browser.visitor import address
from tests.courses.commands.lessons import (
    AwardBadge,
    ExportProgress,
    RefreshStatistics,
    RenderVideo,
    RunSubmission,
    SyncTrack,
)
from tests.processes import wait_until
from users.models import User

LEARNERS = ("ada", "grace", "alan", "edsger", "barbara", "donald")

# What has run in an hour: queue, command, jobs a minute, parts of them that were retried or died, usual microseconds.
TRAFFIC = (
    ("critical", "courses.RunSubmission", 42, 0.03, 300_000),
    ("default", "courses.AwardBadge", 9, 0, 9_000),
    ("mailers", "users.SendWelcomeEmail", 4, 0.01, 120_000),
    ("background", "courses.SyncTrack", 2, 0.2, 4_000_000),
    ("background", "courses.RefreshStatistics", 1, 0, 700_000),
)

# How many jobs of each state there are then.
STANDS = {"limited": 1, "queued": 7, "running": 1, "scheduled": 2, "retrying": 1, "waiting": 2, "blocked": 1}
STANDS |= {"finished": 29, "dead": 7, "discarded": 1, "cancelled": 1}


class Scene:
    """Jobs in every state. They are made at once; a worker that serves all queues but `low` must be running."""

    def __init__(self):
        self.learners = [User.objects.create_user(f"{name}@jiki.example", "x" * 12) for name in LEARNERS]
        self.traffic()
        self.recurring()
        ada, grace, *others = self.learners
        self.dead = RunSubmission.defer(ada, "maze-runner")
        for track in ("cobol", "cobol", "fortran"):
            SyncTrack.defer(track)
        for learner, exercise in zip(others, ("maze-solver", "maze-runner"), strict=False):
            RunSubmission.defer(learner, exercise)
        SyncTrack.defer("rust")
        for learner in self.learners:
            self.finished = RunSubmission.defer(learner, "two-fer")
            AwardBadge.defer_many([(learner, "first steps"), (learner, "a day in a row")])
        self.discarded = AwardBadge.defer(grace, "early bird")
        self.running = RenderVideo.defer("loops-and-lists")
        self.limited = RenderVideo.defer("functions")
        self.scheduled = AwardBadge.defer(grace, "a week in a row", wait=3 * 3_600)
        RefreshStatistics.defer(wait=1_500)
        ExportProgress.defer_many([(learner,) for learner in self.learners])
        self.queued = ExportProgress.defer(ada, "pdf")
        self.waiting = ExportProgress.defer(grace, prereq_jobs=[self.running])
        self.cancelled = ExportProgress.defer(others[0], "xml")
        control.cancel(self.cancelled)
        activity.record(Change("ada", "cancel", f"Job {self.cancelled.id} was cancelled."), [self.cancelled.id])
        self.batches()
        self.unsent()
        wait_until(lambda: self.dead.state == "dead")
        self.blocked = AwardBadge.defer(ada, "out of the maze", prereq_jobs=[self.dead])
        queues.pause("low")
        deleted = Change("ada", "delete", "3 jobs were deleted.", state="dead", filters={"text": "cobol"}, count="3")
        activity.record(deleted, [self.dead.id])
        wait_until(self.is_set)

    def batches(self):
        """A batch, of which some jobs have ended, and a flow, of which a step waits."""
        ada, grace, *_ = self.learners
        with Batch("badges of the week", on_complete=RefreshStatistics.prepare(), tags=["badges"]) as self.batch:
            AwardBadge.defer_many([(learner, "a week without a pause") for learner in self.learners])
            ExportProgress.defer(grace, "html")
        with Workflow("a track is published") as self.flow:
            synced = self.flow.add(SyncTrack, "python")
            exported = self.flow.add(ExportProgress, ada, after=[synced])
            self.flow.add(RefreshStatistics, after=[synced, exported])

    def unsent(self):
        """A durable job in the outbox alone. Its row is an hour ahead, so the worker's relay leaves it there."""
        new = new_job(RefreshStatistics, (), {}, queue="low", durable=True)
        rows.insert([rows.NewRow(new.id, "", new.queue, packed.pack(new), None)])
        Unsent.objects.filter(job_id=new.id).update(created=timezone.now() + timedelta(hours=1))

    def is_set(self):
        """Whether every job has come to where it stays."""
        found = {state.value: count.value for state, count in counts().items()}
        return all(found[state] >= number for state, number in STANDS.items())

    def traffic(self):
        """Counts of the last hour, as the workers write them."""
        chance, this_minute = random.Random(7), int(time.time()) // 60
        with get_connection("default").pipeline() as pipeline:
            for minute in range(this_minute - 59, this_minute):
                rush = 1 + 0.5 * chance.random() + (2 if 18 < this_minute - minute < 27 else 0)
                for queue, command, pace, failing, usual in TRAFFIC:
                    for _ in range(round(pace * rush)):
                        outcome = "retried" if chance.random() < failing * rush else "finished"
                        bucket = int(usual * chance.lognormvariate(0, 0.8)).bit_length()
                        pipeline.hincrby(f"jobs:counts:{minute}", f"{queue}|{command}|{outcome}|{bucket}", 1)
            self.figures(pipeline, this_minute, chance)
            pipeline.execute()

    def figures(self, pipeline, this_minute, chance):
        """Samples of the last hour, a deploy, and what is usual, as the workers' parents write them."""
        for minute in range(this_minute - 59, this_minute):
            late = max(0, 16 - abs(this_minute - minute - 22)) * (1 + chance.random())
            waits = {"critical": 0, "default": 0, "mailers": 0, "background": late * chance.random(), "low": late}
            fields = {name: f"0 {wait:.3f}" for name, wait in waits.items()}
            pipeline.hset(
                f"jobs:samples:{minute}", mapping=fields | {"|threads": f"{chance.randint(1, 2 + int(late) // 9)} 5"}
            )
        pipeline.hset("jobs:releases", "v42", f"{(this_minute - 28) * 60} {this_minute * 60}")
        usual = {f"queue|{queue}": f"{60 * pace} 4 1 0.2 0.5 {60 * pace} 4" for queue, _, pace, _, _ in TRAFFIC}
        usual |= {f"command|{name}": f"{60 * pace} {max(1, pace)} 0 0.2 4.5 9 0" for _, name, pace, _, _ in TRAFFIC}
        for days in range(1, 8):
            pipeline.hset(f"jobs:digest:{this_minute // 60 - 24 * days}", mapping=usual)

    def recurring(self):
        """Entries, each with some runs; one of them fails."""
        for entry in (
            Entry("refresh statistics", RefreshStatistics, cron="*/15 * * * *"),
            Entry(
                "sync the fortran track", SyncTrack, args=("haskell",), cron="30 4 * * *", timezone="Europe/Amsterdam"
            ),
            Entry("sync the python track", SyncTrack, args=("python",), every=3_600),
            Entry("clean up sessions", "users.CleanUpSessions", cron="17 3 * * *", queue="background"),
        ):
            scheduler.add(entry)
        for name, times in (("refresh statistics", 7), ("sync the python track", 4), ("sync the fortran track", 1)):
            for _ in range(times):
                scheduler.run_now(name)
        scheduler.pause("clean up sessions")

    def pages(self):
        """Every page, by kind: its path, and a text that it must show."""
        dead, finished = address("list", "dead"), address("list", "finished")
        jobs = [self.dead, self.scheduled, self.running, self.queued, self.waiting, self.blocked, self.discarded]
        return {
            "overview": [
                (address("overview"), "highest priority first"),
                (address("overview") + "?span=day", "highest priority first"),
            ],
            "list": [(address("list", state.value), "courses.") for state in JobState],
            "second page": [(finished + "?order=oldest", "Next page")],
            "groups": [(dead + "?group=error", "LookupError"), (dead + "?group=command", "courses.SyncTrack")],
            "search": [
                (address("search") + "?q=queue:background", "Narrow down"),
                (dead + "?text=cobol&queue=background", "cobol"),
                (dead + "?text=nonsense", "No job here."),
            ],
            "job": [
                *((address("job", job.id), "courses.") for job in jobs),
                (address("job_edit", self.dead.id), "exercise"),
            ],
            "queue": [(address("queue", "low"), "low")],
            "profiles": [(address("profiles"), "No attempt was profiled.")],
            "limits": [(address("limits"), "courses.RenderVideo")],
            "batches": [
                (address("batches"), "badges of the week"),
                (address("batch", self.batch.id), "badges of the week"),
                (address("batch", self.flow.id), "As Mermaid"),
            ],
            "workers": [(address("workers"), "learners"), (address("worker", "learners"), "Threads busy")],
            "recurring": [(address("recurring"), "sync the python track")],
            "commands": [
                (address("commands"), "courses.RunSubmission"),
                (address("commands") + "?span=day", "courses.SyncTrack"),
            ],
            "command": [
                (address("command", "courses.SyncTrack"), "Longest-running jobs"),
                (address("command", "courses.SyncTrack") + "?span=2weeks", "Slowest of the last jobs"),
            ],
            "errors": [(address("errors"), "LookupError")],
            "activity": [(address("activity"), "3 jobs were deleted.")],
        }

    def end(self):
        """Let the worker go on to other things."""
        for job in (self.limited, self.running):
            with suppress(ChangeRefusedError):  # a test may have seen to it
                control.cancel(job)
        wait_until(lambda: counts()[JobState.RUNNING].value == 0)
