"""`jobs stats`: figures of the queues, once or live."""

import time
from typing import Any

from django.core.management.base import CommandError
from redis.exceptions import RedisError

from jobs import conf, inspection, queues, scheduler
from jobs.broker.times import MINUTE
from jobs.cli import DONE
from jobs.cli.output import Output, made_table
from jobs.errors import JobsError
from jobs.inspection import attempt_counts, samples, workers
from jobs.inspection.attempt_counts import FAILED

SPAN = 5  # minutes over which rates are measured

COLUMNS = ("queue", "jobs", "latency", "running", "done/min", "failed/min", "workers", "")


def stats(output: Output, options: dict[str, Any]) -> int:
    """Show the figures: live on a terminal until Ctrl-C, else once."""
    if not options["interval"] > 0:
        raise CommandError(f"--interval {options['interval']} is impossible: it must be above 0 seconds.")
    if output.as_json:
        output.json(figures())
    elif options["once"] or not output.is_terminal:
        current = figures()
        output.table(COLUMNS, _rows(current))
        for line in _lines(current):
            output.say(line)
    else:
        _watch(output, options["interval"])
    return DONE


def _watch(output: Output, interval: float) -> None:
    from rich.console import Group
    from rich.live import Live

    try:
        with Live(console=output.console(), auto_refresh=False) as live:
            while True:
                try:
                    current = figures()
                    live.update(Group(made_table(COLUMNS, _rows(current)), "", *_lines(current)), refresh=True)
                except (JobsError, RedisError) as error:
                    live.update(f"No figures: {error}", refresh=True)
                time.sleep(interval)
    except KeyboardInterrupt:
        pass  # Ctrl-C ends the display


def figures() -> dict[str, Any]:
    """Return the figures, for JSON: rates per minute over the last five minutes, latencies in seconds."""
    alive, paused, recent = workers.listed(), queues.paused(), attempt_counts.by_queue(SPAN * MINUTE)
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
        },
        "scheduler_lag_seconds": scheduler.lag(),
    }


def _rows(current: dict[str, Any]) -> list[list[Any]]:
    shown = ("name", "length", "latency_seconds", "running", "finished_per_minute", "failed_per_minute", "workers")
    return [[*(queue[name] for name in shown), _remark(queue)] for queue in current["queues"]]


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
    return [
        f"jobs: {', '.join(counts) or 'none'}",
        f"workers: {pool['processes']}; {pool['busy']} of {pool['threads']} threads busy",
        f"recurring entries: {current['scheduler_lag_seconds']:.0f} s late at most",
    ]
