"""Batches and flows of the load, and their books: members by state, and callbacks."""

from collections import Counter
from contextlib import suppress

from jobs import Batch, Workflow
from jobs.batches import record
from jobs.broker import keys
from jobs.errors import BatchNotFoundError
from jobs.job import MandateJob
from tests.sample.commands.ledger import CallBack, Record
from tests.sample.models import Note


class Batches:
    """Those that the load has opened, with the jobs of each. Of a batch whose write raised nobody knows its jobs."""

    def __init__(self):
        self.known, self.unknown = [], []

    def defer(self, command, rows, chance, **options):
        """Defer rows as a batch, perhaps in another, or as a flow whose steps follow each other. Returns the jobs."""
        if chance.random() < 0.3:
            return self._defer_flow(rows, options["queue"])
        batch, outer = Batch("batch", **callbacks()), Batch("outer", **callbacks())
        try:
            if chance.random() < 0.3:
                with outer, batch:
                    jobs = command.defer_many(rows, **options)
                self.known.append((outer, [], batch))
            else:
                with batch:
                    jobs = command.defer_many(rows, **options)
        except Exception:
            self.unknown += [batch, outer]
            raise
        self.known.append((batch, jobs, None))
        return jobs

    def _defer_flow(self, rows, queue):
        flow = Workflow("flow", **callbacks())
        try:
            with flow:
                steps = []
                for row in rows:
                    steps.append(flow.add(Record, **row, queue=queue, after=steps[-1:], on_failure="run"))
        except Exception:
            self.unknown.append(flow)
            raise
        jobs = [step.job for step in steps]
        self.known.append((flow, jobs, None))
        return jobs

    def seal(self):
        """What a person does with those whose creators have failed."""
        for batch in self.unknown:
            with suppress(BatchNotFoundError):
                Batch.get(batch.id).seal()


def callbacks():
    return {f"on_{event}": CallBack.prepare(event) for event in record.EVENTS}


def check_the_batches(batches, client, interrupted):
    """Sums of members by state, and each callback once. `interrupted`: whether a job was, and may have run twice."""
    called, wrong = Counter(Note.objects.filter(text__startswith="callback").values_list("text", flat=True)), {}

    def runs_of(batch, event):
        job_id = record.callback_id(batch.id, event)
        number = called[f"callback {event} {batch.id}"]
        job = MandateJob(job_id, connection=client)
        return 1 if interrupted(job) and (number or job.state == "dead") else number

    for batch, jobs, child in batches.known:
        states = Counter(str(job.state) for job in jobs)
        if child is not None:
            header, counts = record.read(client, child.id), child.counts
            fired = [event for event in record.EVENTS if getattr(header, event)]
            states = Counter(
                str(MandateJob(record.callback_id(child.id, event), connection=client).state) for event in fired
            )
            states["dead" if counts["dead"] else "finished"] += 1
        counts = {state: number for state, number in batch.counts.items() if number}
        is_good = set(counts) == {"finished"}
        expected = {"complete": 1, "success": int(is_good), "dead": int("dead" in counts)}
        actual = {event: runs_of(batch, event) for event in record.EVENTS}
        if counts != states or actual != expected or not batch.has_ended:
            wrong[batch.id] = (batch.name, counts, dict(states), actual)
    assert wrong == {}, "batches whose sums or callbacks differ"
    open_still = [batch.id for batch in batches.unknown if client.exists(keys.batch_members("pending", batch.id))]
    assert open_still == [], "open, though all has ended"
    twice = {text for text, number in called.items() if number > 1}
    callback = {text: MandateJob(record.callback_id(*text.split()[:0:-1]), connection=client) for text in twice}
    assert [text for text, job in callback.items() if not interrupted(job)] == [], "called back twice"
