"""The sub-commands that change jobs and queues: each calls `control` or `queues` and prints the result."""

import getpass
import socket
from collections.abc import Callable, Sequence
from typing import Any

from jobs import control, queues
from jobs.cli import DONE, REFUSED
from jobs.cli.output import Deed, Output, counted
from jobs.cli.selection import FILTERS, chosen, why_none
from jobs.errors import ChangeRefusedError, StepError
from jobs.inspection import activity, find
from jobs.outbox import rows
from jobs.outbox.relay import send_all

SLICE = 100  # jobs changed between two updates of the progress bar

_DONE = {"retry": "retried", "run_now": "set to run now", "cancel": "cancelled", "delete": "deleted"}


def change(name: str) -> Deed:
    """Return the sub-command that makes the named change to the selected jobs."""

    def do(output: Output, options: dict[str, Any]) -> int:
        past = ", past their limits" if options.get("force") else ""
        return _change_all(output, options, name, _DONE[name] + past)

    return do


def move(output: Output, options: dict[str, Any]) -> int:
    """Move queued jobs to another queue on the same server."""
    queue = queues.check(options["to"])
    return _change_all(output, options, "move", f"moved to {queue}", queue)


def _change_all(output: Output, options: dict[str, Any], name: str, done: str, queue: str = "") -> int:
    jobs, verb, force = chosen(options), name.replace("_", " ").capitalize(), bool(options.get("force"))
    if not jobs and (nothing := why_none(options)):
        output.complain(nothing)
    if jobs and not options["ids"]:
        output.confirm(f"{verb} {counted(len(jobs), 'job')}?", yes=options["yes"])
    changed, refused = 0, []
    for batch in output.progress([jobs[at : at + SLICE] for at in range(0, len(jobs), SLICE)], verb):
        answers = iter(control.change_all(name, [job for _, job in batch if job], queue, force=force))
        for job_id, job in batch:
            if why := next(answers) if job else f"There is no record of job {job_id}.":
                refused.append({"id": job_id, "reason": str(why)})
            else:
                changed += 1
    if changed:
        _keep(name, f"{counted(changed, 'job')} {'was' if changed == 1 else 'were'} {done}.", options, changed, jobs)
    if output.as_json:
        output.json({"changed": changed, "refused": refused})
    else:
        for each in refused:
            output.complain(each["reason"])
        output.say(f"{counted(changed, 'job')} {'was' if changed == 1 else 'were'} {done}.")
    return REFUSED if refused else DONE


def _keep(name: str, text: str, options: dict[str, Any], changed: int, jobs: Sequence[tuple[str, Any]]) -> None:
    """Keep the change as activity, under the name of the terminal's user."""
    given = {each: str(options[each]) for each in FILTERS if options.get(each)}
    if options.get("state"):
        given["state"] = ", ".join(options["state"])
    who = f"{_user()} in a terminal on {socket.gethostname()}"
    change = activity.Change(who, name, text, filters=given, queue=given.get("queue", ""), count=f"{changed:,}")
    activity.record(change, [job_id for job_id, job in jobs if job])


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user has no name
        return "somebody"


def begin_anew(output: Output, options: dict[str, Any]) -> int:
    """Have jobs do their steps anew, from one on or all of them."""
    step, changed, refused = options["step"], [], []
    for job_id in options["ids"]:
        try:
            if (job := find(job_id)) is None:
                raise ChangeRefusedError(f"There is no record of job {job_id}.")
            control.begin_anew(job, step)
            changed.append((job_id, job))
        except (ChangeRefusedError, StepError) as error:
            refused.append({"id": job_id, "reason": str(error)})
    text = f"{counted(len(changed), 'job')} {'begins' if len(changed) == 1 else 'begin'} anew."
    if changed:
        _keep("begin_anew", text, options, len(changed), changed)
    if output.as_json:
        output.json({"changed": len(changed), "refused": refused})
    else:
        for each in refused:
            output.complain(each["reason"])
        output.say(text)
    return REFUSED if refused else DONE


def relay(output: Output, options: dict[str, Any]) -> int:
    """Send the durable jobs that are unsent. Refused without an outbox, or if some cannot be sent."""
    sent = send_all()
    left = rows.backlog().number
    if output.as_json:
        output.json({"sent": sent, "left": left})
    else:
        output.say(f"{counted(sent, 'job')} {'was' if sent == 1 else 'were'} sent.")
        if left:
            output.complain(
                f"{counted(left, 'job')} {'is' if left == 1 else 'are'} still unsent; jobs_doctor says why."
            )
    return REFUSED if left else DONE


def pause(output: Output, options: dict[str, Any]) -> int:
    """Pause queues: workers take no more jobs from them."""
    return _on_queues(output, options["queues"], queues.pause)


def resume(output: Output, options: dict[str, Any]) -> int:
    """Resume queues: workers take jobs from them again."""
    return _on_queues(output, options["queues"], queues.resume)


def _on_queues(output: Output, names: list[str], change: Callable[[str], None]) -> int:
    for name in names:
        queues.check(name)  # check all names before the first change
    for name in names:
        change(name)
    paused = queues.paused()
    if output.as_json:
        output.json({"queues": [{"name": name, "paused": name in paused} for name in names]})
    else:
        for name in names:
            output.say(f"The queue {name} is paused." if name in paused else f"The queue {name} was resumed.")
    return DONE
