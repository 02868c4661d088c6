"""`jobs list` and `jobs show`."""

from dataclasses import asdict
from itertools import chain, islice
from typing import Any

from jobs.broker.times import as_text, number_of
from jobs.cli import DONE, REFUSED
from jobs.cli.output import Output
from jobs.cli.selection import filtered, why_none
from jobs.inspection import find, job_steps, timeline
from jobs.inspection.results import returned
from jobs.job import JobState, MandateJob
from jobs.record import display, prerequisites

COLUMNS = ("id", "state", "queue", "at", "attempts", "description", "reason")
TIMES = ("created_at", "enqueued_at", "started_at", "ended_at")


def list_jobs(output: Output, options: dict[str, Any]) -> int:
    """List the jobs that match the filters."""
    rows = filtered(options)
    first = list(islice(rows, 1))
    if not first and (why := why_none(options)):
        output.complain(why)
    rows = chain(first, rows)
    if output.as_json:
        output.json({"jobs": [row.as_dict() for row in rows]})
    else:
        output.table(COLUMNS, ([getattr(row, name) for name in COLUMNS] for row in rows), header=options["header"])
    return DONE


def show(output: Output, options: dict[str, Any]) -> int:
    """Show all details of jobs, by their ids."""
    jobs, code = [], DONE
    for job_id in options["ids"]:
        job = find(job_id)
        if job is None:
            output.complain(f"There is no record of job {job_id}: it expired, was deleted, or never existed.")
            code = REFUSED
        else:
            jobs.append(_fields(job))
    if output.as_json:
        output.json({"jobs": jobs})
    else:
        for each in jobs:
            _print(output, each)
    return code


def _fields(job: MandateJob) -> dict[str, Any]:
    """Return one job's fields, for JSON. Private arguments are hidden as on the dashboard."""
    values: Any = job.connection.hmget(job.key, *TIMES, "worker_name", "interruptions")
    *times, worker, interruptions = values
    return {
        "id": job.id,
        "state": job.state,
        "queue": job.origin,
        "description": job.description,
        "reason": job.reason or "",
        "worker": as_text(worker or b""),
        "attempts": sum(step.is_attempt for step in timeline.of(job)),
        "requeues": job.progress.requeues,
        "interruptions": int(number_of(interruptions)),
        **{name: as_text(value) if value else None for name, value in zip(TIMES, times, strict=True)},
        "prerequisites": job.prerequisites,
        "blocked_by": prerequisites.blocking(job.connection, job.id),
        "dependents": sorted(job.dependents),
        "steps": job_steps.as_dict(job),
        "history": [asdict(event) for event in job.history],
        "report": str(job.report or ""),
        "returned": returned(job) if job.state is JobState.FINISHED else None,
        "log": job.call_log,
        "traceback": _last_traceback(job),
    }


def _last_traceback(job: MandateJob) -> str:
    try:
        return display.text(next((result.exc_string for result in job.results() if result.exc_string), None) or "")
    except Exception:  # a result that RQ cannot read
        return ""


def _print(output: Output, job: dict[str, Any]) -> None:
    for name, value in job.items():
        if name == "history":
            for event in value:
                what = " ".join(filter(None, (event["name"], event["worker"], event["reason"])))
                output.say(f"{'history':14} {event['at']:%Y-%m-%d %H:%M:%S} {what}")
        elif name == "steps":
            for step in (value or {}).get("steps", ()):
                of = f" of {step['total']:,}" if step["total"] else ""
                items = f", {step['done']:,}{of} items" if step["done"] else ""
                took = "not ended" if step["ended"] is None else f"{step['seconds']:.1f} s"
                output.say(f"{'step':14} {step['name']}: {took}{items}")
            if value and value["resumed"]:
                output.say(f"{'resumed':14} {value['resumed']}")
        elif name in ("log", "traceback"):
            if value:
                output.say(f"{name}:\n{value.rstrip()}")
        elif value not in (None, "", []):
            output.say(f"{name:14} {', '.join(value) if isinstance(value, list) else value}")
    output.say("")
