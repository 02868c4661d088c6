"""`jobs limits`: list the limits with their use, pause and resume them, and put other values in their place."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from jobs.cli import DONE
from jobs.cli.output import Output
from jobs.dashboard.format import span
from jobs.limits import control, values
from jobs.limits.policy import MOST
from jobs.limits.usage import Usage, usage

COLUMNS = ("limit", "admits", "in use", "waiting", "longest", "state", "commands")
SHOWN = 3  # values of a key that are paused
CHANGES = ("pause", "resume", "set", "reset")


def add_arguments(parser: CommandParser) -> None:
    """Add what the sub-command takes."""
    parser.add_argument("change", nargs="?", default="list", choices=["list", *CHANGES], help="default: list")
    parser.add_argument(
        "names", nargs="*", metavar="LIMIT", help="ids of limits, as the list shows them; pause, resume: or commands"
    )
    parser.add_argument("--value", help="pause, resume: the jobs with this value of the key alone, as JSON or text")
    parser.add_argument("--seconds", type=float, help="pause: for so long; without, until resumed")
    parser.add_argument("--n", type=int, help="set: how many at once, or how many starts")
    parser.add_argument("--per", type=float, help="set: in so many seconds")
    parser.add_argument("--burst", type=int, help="set: how many starts at once")
    parser.add_argument("--header", action="store_true", help="name the columns in piped output, too")


def limits(output: Output, options: dict[str, Any]) -> int:
    """List the limits, or change those that are named."""
    change, names = options["change"], options["names"]
    if change == "list":
        return _list(output, names, header=options["header"])
    if not names:
        raise CommandError(f"Which limits? Name them: jobs limits {change} LIMIT ...")
    value = None if options["value"] is None else values.typed(options["value"])
    for name in names:
        if change == "pause":
            control.pause(name, text=value, seconds=options["seconds"])
        elif change == "resume":
            control.resume(name, text=value)
        elif change == "set":
            control.override(name, n=options["n"], per=options["per"], burst=options["burst"])
        else:
            control.take_back(name)
        output.say(f"{name}: {change} done")
    return DONE


def _list(output: Output, names: list[str], *, header: bool) -> int:
    found = usage()
    if unknown := set(names).difference(each.id for each in found):
        raise CommandError(f"Unknown limit: {min(unknown)!r}. `jobs limits` lists them.")
    found = [each for each in found if not names or each.id in names]
    if output.as_json:
        output.json({"limits": [each.as_dict() for each in found]})
    else:
        output.table(COLUMNS, (_row(each) for each in found), header=header)
    return DONE


def _row(each: Usage) -> tuple[str, ...]:
    admits = f"{each.n} in {span(each.per)}" if each.per else f"{each.n} at once" if each.n < MOST else "all"
    if each.per and each.burst != each.n:
        admits += f", {each.burst} at once"
    states = ["paused"] if each.is_paused else [f"paused for {value}" for value in each.paused_values[:SHOWN]]
    if not each.is_paused and len(each.paused_values) > SHOWN:
        states.append(f"and {len(each.paused_values) - SHOWN} more")
    states += ["overridden"] if each.is_overridden else []
    longest = span(each.longest_wait) if each.waiting else ""
    return (
        *(each.id, admits, str(each.in_use), str(each.waiting), longest),
        *(", ".join(states), ", ".join(each.commands)),
    )
