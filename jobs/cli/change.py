"""What changes jobs and queues: each a change of `control` or `queues`, told in a sentence."""

from collections.abc import Callable
from typing import Any

from jobs import control, queues
from jobs.cli import DONE, REFUSED
from jobs.cli.output import Deed, Output, counted
from jobs.cli.selection import chosen

SLICE = 100  # jobs that are changed between two moves of the bar

_DONE = {"retry": "retried", "run_now": "set running", "cancel": "cancelled", "delete": "deleted"}


def change(name: str) -> Deed:
    """The sub-command that makes the change of that name to the chosen jobs."""

    def do(output: Output, options: dict[str, Any]) -> int:
        return _change_all(output, options, name, _DONE[name])

    return do


def move(output: Output, options: dict[str, Any]) -> int:
    """Move queued jobs to another queue of their server."""
    queue = queues.check(options["to"])
    return _change_all(output, options, "move", f"moved to {queue}", queue)


def _change_all(output: Output, options: dict[str, Any], name: str, done: str, queue: str = "") -> int:
    jobs, verb = chosen(options), name.replace("_", " ").capitalize()
    if jobs and not options["ids"]:
        output.confirm(f"{verb} {counted(len(jobs), 'job')}?", yes=options["yes"])
    changed, refused = 0, []
    for some in output.progress([jobs[at : at + SLICE] for at in range(0, len(jobs), SLICE)], verb):
        answers = iter(control.change_all(name, [job for _, job in some if job], queue))
        for job_id, job in some:
            if why := next(answers) if job else f"There is no record of job {job_id}.":
                refused.append({"id": job_id, "reason": str(why)})
            else:
                changed += 1
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
