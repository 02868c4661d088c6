"""The histories of recurring entries: the outcome at each of their times."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from redis import Redis

from jobs.broker import keys
from jobs.broker.times import as_text, moment

_UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class Run:
    """One line of an entry's history: the outcome at one of its times."""

    what: str  # run, skipped (the last one was unfinished), missed (no scheduler ran)
    at: datetime
    job_id: str = ""
    outcome: str = ""  # finished, dead, discarded, cancelled, deleted; unfinished until then


def histories(of: Sequence[tuple[Redis, str]], most: int) -> dict[str, list[Run]]:
    """Return the last `most` lines of these entries' histories, the newest first, in one round trip per server."""
    runs: dict[str, list[Run]] = {}
    for client in {id(client): client for client, _ in of}.values():
        ids = [entry_id for each, entry_id in of if each is client]
        with client.pipeline(transaction=False) as pipeline:
            for entry_id in ids:
                pipeline.lrange(keys.runs(entry_id), 0, most - 1)
                pipeline.hgetall(keys.runs_ended(entry_id))
            answers = pipeline.execute()
        for entry_id, lines, outcomes in zip(ids, answers[::2], answers[1::2], strict=True):
            runs[entry_id] = [_run(orjson.loads(line), outcomes) for line in lines]
    return runs


def _run(line: dict[str, Any], outcomes: dict[bytes, bytes]) -> Run:
    outcome = as_text(outcomes.get(line["id"].encode(), _UNFINISHED)) if line["what"] == "run" else ""
    return Run(line["what"], moment(line["at"]), line["id"], outcome)
