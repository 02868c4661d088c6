"""`jobs stats`: figures of the queues, once or live."""

import time
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError
from redis.exceptions import RedisError

from jobs import conf, inspection, queues, scheduler
from jobs.broker.times import MINUTE
from jobs.cli import DONE
from jobs.cli.output import Output, sparkline
from jobs.dashboard.format import span
from jobs.errors import JobsError
from jobs.inspection import attempt_counts, samples, workers
from jobs.inspection.attempt_counts import FAILED

if TYPE_CHECKING:
    from rich.table import Table

SPAN = 5  # minutes over which rates are measured
SHOWN = 30  # minutes of the sparklines

COLUMNS = ("queue", "jobs", "latency", "running", "done/min", "failed/min", "workers", "")
DRAWN = ("queue", "jobs", "waits", "running", "done/min", "failed/min", "workers", f"{SHOWN} min of attempts", "")
TO_THE_LEFT = ("queue", DRAWN[-2], "")


def stats(output: Output, options: dict[str, Any]) -> int:
    """Show the figures: live on a terminal until Ctrl-C, else once."""
    if not options["interval"] > 0:
        raise CommandError(f"--interval {options['interval']} is impossible: it must be above 0 seconds.")
    if output.as_json:
        output.json(figures())
    elif options["once"] or not output.is_terminal:
        current = figures()
        if output.is_terminal:
            output.console().print(_drawn(current, output.console().encoding))
        else:
            output.table(COLUMNS, _rows(current))
        for line in _lines(current):
            output.say(line)
    else:
        _watch(output, options["interval"])
    return DONE


def _watch(output: Output, interval: float) -> None:
    from rich.console import Group
    from rich.live import Live

    console = output.console()
    try:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                try:
                    current = figures()
                    live.update(Group(_drawn(current, console.encoding), "", *_lines(current)), refresh=True)
                except (JobsError, RedisError) as error:
                    live.update(f"No figures: {error}", refresh=True)
                time.sleep(interval)
    except KeyboardInterrupt:
        pass  # Ctrl-C ends the display


def figures() -> dict[str, Any]:
    """Return the figures, for JSON: rates per minute over the last five minutes, latencies in seconds."""
    alive, paused, recent = workers.listed(), queues.paused(), attempt_counts.by_queue(SPAN * MINUTE)
    by_minute = [of_minute for _, of_minute in attempt_counts.by_time_and_queue(SHOWN * MINUTE, MINUTE)]
    return {
        "queues": [
            {
                "name": name,
                "length": sample.length,
                "latency_seconds": sample.latency,
                "target_seconds": conf.target(name),
                "running": sum(job.queue == name for worker in alive for job in worker.running),
                "finished_per_minute": recent[name].outcomes["finished"] / SPAN,
                "failed_per_minute": sum(recent[name].outcomes[outcome] for outcome in FAILED) / SPAN,
                "attempts_by_minute": [of[name].attempts if name in of else 0 for of in by_minute],
                "workers": sum(name in worker.queues for worker in alive),
                "paused": name in paused,
            }
            for name, sample in samples.measure().items()
        ],
        "counts": {state.value: {"value": n.value, "more": n.more} for state, n in inspection.counts().items()},
        "workers": {
            "processes": len(alive),
            "threads": sum(worker.threads for worker in alive),
            "busy": sum(worker.busy for worker in alive),
            "tasks": sum(worker.tasks for worker in alive),
            "tasks_running": sum(worker.tasks_running for worker in alive),
            "loop_lag_seconds": max((worker.loop_lag for worker in alive), default=0.0),
        },
        "scheduler_lag_seconds": scheduler.lag(),
    }


def _rows(current: dict[str, Any]) -> list[list[Any]]:
    shown = ("name", "length", "latency_seconds", "running", "finished_per_minute", "failed_per_minute", "workers")
    return [[*(queue[name] for name in shown), _remark(queue)] for queue in current["queues"]]


def _drawn(current: dict[str, Any], encoding: str) -> "Table":
    """Return the table of a terminal: colours for what needs a look, units, and a sparkline of each queue."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in DRAWN:
        table.add_column(column, no_wrap=True, justify="left" if column in TO_THE_LEFT else "right")
    for queue in current["queues"]:
        remark, failed = _remark(queue), queue["failed_per_minute"]
        style = "" if not remark else "yellow" if queue["paused"] else "red"
        line = sparkline(queue["attempts_by_minute"]) if encoding.lower().startswith("utf") else ""
        table.add_row(
            Text(queue["name"], style=style),
            f"{queue['length']:,}",
            Text(span(queue["latency_seconds"]), style=style if remark.startswith("over") else ""),
            f"{queue['running']:,}",
            f"{queue['finished_per_minute']:,.1f}",
            Text(f"{failed:,.1f}", style="red" if failed else ""),
            Text(f"{queue['workers']:,}", style="" if queue["workers"] else "red"),
            Text(line, style="cyan"),
            Text(remark, style=style),
        )
    return table


def _remark(queue: dict[str, Any]) -> str:
    if queue["paused"]:
        return "paused"
    if not queue["workers"]:
        return "no worker"
    return f"over {queue['target_seconds']:g} s" if queue["latency_seconds"] > queue["target_seconds"] else ""


def _lines(current: dict[str, Any]) -> list[str]:
    counts = [
        f"{n['value']:,}{'+' if n['more'] else ''} {state}" for state, n in current["counts"].items() if n["value"]
    ]
    pool = current["workers"]
    loops = ""
    if pool["tasks"]:
        loops = (
            f"; {pool['tasks_running']} of {pool['tasks']} tasks on event loops, {pool['loop_lag_seconds']:.2f} s late"
        )
    return [
        f"jobs: {', '.join(counts) or 'none'}",
        f"workers: {pool['processes']}; {pool['busy']} of {pool['threads']} threads busy{loops}",
        f"recurring entries: {current['scheduler_lag_seconds']:.0f} s late at most",
    ]
