"""What changes jobs and queues: each a change of `control` or `queues`, told in a sentence."""

from collections.abc import Callable
from functools import partial
from typing import Any

from rq.job import Job

from jobs import bulk, control, queues
from jobs.cli import DONE, REFUSED
from jobs.cli.output import Deed, Output, counted
from jobs.cli.selection import chosen
from jobs.errors import ChangeRefusedError

_DONE = {"retry": "retried", "run_now": "set running", "cancel": "cancelled", "delete": "deleted"}


def change(name: str) -> Deed:
    """The sub-command that makes the change of that name to the chosen jobs."""

    def do(output: Output, options: dict[str, Any]) -> int:
        return _change_all(output, options, bulk.CHANGES[name], name.replace("_", " "), _DONE[name])

    return do


def move(output: Output, options: dict[str, Any]) -> int:
    """Move queued jobs to another queue of their server."""
    queue = queues.check(options["to"])
    return _change_all(output, options, partial(control.move, queue=queue), "move", f"moved to {queue}")


def _change_all(output: Output, options: dict[str, Any], make: Callable[[Job], object], verb: str, done: str) -> int:
    jobs = chosen(options)
    if jobs and not options["ids"]:
        output.confirm(f"{verb.capitalize()} {counted(len(jobs), 'job')}?", yes=options["yes"])
    changed, refused = 0, []
    for job_id, job in output.progress(jobs, verb.capitalize()):
        try:
            if job is None:
                raise ChangeRefusedError(f"There is no record of job {job_id}.")
            make(job)
            changed += 1
        except ChangeRefusedError as error:
            refused.append({"id": job_id, "reason": str(error)})
    if output.as_json:
        output.json({"changed": changed, "refused": refused})
    else:
        for each in refused:
            output.complain(each["reason"])
        output.say(f"{counted(changed, 'job')} {'was' if changed == 1 else 'were'} {done}.")
    return REFUSED if refused else DONE


def pause(output: Output, options: dict[str, Any]) -> int:
    """Take no more jobs from these queues."""
    return _on_queues(output, options["queues"], queues.pause)


def resume(output: Output, options: dict[str, Any]) -> int:
    """Take jobs from these queues again."""
    return _on_queues(output, options["queues"], queues.resume)


def _on_queues(output: Output, names: list[str], make: Callable[[str], None]) -> int:
    for name in names:
        queues.check(name)  # all of them, before the first is changed
    for name in names:
        make(name)
    paused = queues.paused()
    if output.as_json:
        output.json({"queues": [{"name": name, "paused": name in paused} for name in names]})
    else:
        for name in names:
            output.say(f"The queue {name} is paused." if name in paused else f"The queue {name} goes on.")
    return DONE
