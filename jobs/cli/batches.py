"""`jobs batches`: list the batches, show some, or retry the dead members of one, cancel or seal it."""

from typing import Any

from django.core.management.base import CommandError

from jobs.batches import rows
from jobs.batches.batch import Batch
from jobs.batches.record import not_found
from jobs.batches.rows import BatchRow
from jobs.batches.workflow import Workflow
from jobs.cli import DONE
from jobs.cli.output import Output, counted

COLUMNS = ("id", "state", "created", "ended", "total", "dead", "name")
CHANGES = ("retry", "cancel", "seal")
LISTED = 50  # batches that are listed without ids
LOOKED_AT = 1_000  # batches among which flows are found


def batches(output: Output, options: dict[str, Any]) -> int:
    """List batches, the newest first, or change those that are named. BatchNotFoundError for an unknown one."""
    named = [_existing(batch_id) for batch_id in options["ids"]]
    if options["change"] == "list":
        return _list(output, named or rows.listed(0, LISTED), header=options["header"])
    if not named:
        raise CommandError(f"Which batches? Name them: jobs batches {options['change']} ID ...")
    return _change(output, named, options["change"])


def flows(output: Output, options: dict[str, Any]) -> int:
    """The same for flows alone; JSON has the steps of each, with those before them."""
    named = [_existing(batch_id) for batch_id in options["ids"]]
    if options["change"] != "list":
        return batches(output, options)
    found = named or [row for row in rows.listed(0, LOOKED_AT) if row.is_flow][:LISTED]
    if not output.as_json:
        return _list(output, found, header=options["header"])
    output.json({"flows": [{**row.as_dict(), "steps": Workflow.handle(row.id, row.client).graph()} for row in found]})
    return DONE


def _existing(batch_id: str) -> BatchRow:
    row = rows.find(batch_id)
    if row is None:
        raise not_found(batch_id)
    return row


def _list(output: Output, listed: list[BatchRow], *, header: bool) -> int:
    if output.as_json:
        output.json({"batches": [row.as_dict() for row in listed]})
    else:
        cells = (
            (row.id, row.state, row.created, row.ended, row.total, row.counts["dead"], row.name or "-")
            for row in listed
        )
        output.table(COLUMNS, cells, header=header)
    return DONE


def _change(output: Output, named: list[BatchRow], change: str) -> int:
    changed = {}
    for row in named:
        batch = Batch.handle(row.id, row.client)
        if change == "seal":
            batch.seal()
            changed[row.id] = 0
        else:
            changed[row.id] = batch.cancel() if change == "cancel" else batch.retry_dead()
    if output.as_json:
        output.json({"batches": [{"id": batch_id, "changed": number} for batch_id, number in changed.items()]})
        return DONE
    for batch_id, number in changed.items():
        done = {"retry": "retried", "cancel": "cancelled"}.get(change)
        output.say(f"Batch {batch_id}: {counted(number, 'job')} {done}." if done else f"Batch {batch_id} was sealed.")
    return DONE
