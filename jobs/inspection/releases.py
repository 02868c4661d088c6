"""Follows which releases the workers run, by the version in their records, so that charts can mark deploys."""

from collections.abc import Iterable
from dataclasses import dataclass

from redis import Redis

from jobs import runtime
from jobs.broker import keys
from jobs.broker.connections import servers
from jobs.broker.times import DAY, MINUTE, as_text, number_of
from jobs.inspection.workers import Worker

KEPT_FOR = 15 * DAY  # seconds after a release was last seen
MOST = 100  # releases that a server keeps
APART = 3 * MINUTE  # seconds for which others must have run without a release, so that its return is a deploy


@dataclass(frozen=True, slots=True)
class Deploy:
    """A release, and since when workers run it (seconds since the epoch)."""

    release: str
    since: float


def follow_on(client: Redis, alive: Iterable[Worker]) -> None:
    """
    Write for each release of these workers since when it runs. A release that went away while another one ran, and is
    back, runs anew: a rollback is a deploy. One that went away with all workers is not deployed by their return.
    """
    running = {worker.code_version for worker in alive} - {""}
    if not running:
        return
    now, known = runtime.now(), _read(client)
    latest = max((seen for _since, seen in known.values()), default=0.0)
    for release in running:
        since, seen = known.get(release, (now, latest))
        known[release] = (since if seen > latest - APART else now, now)
    recent = sorted((seen, release) for release, (_since, seen) in known.items() if seen > now - KEPT_FOR)[-MOST:]
    kept = {release for _seen, release in recent}
    with client.pipeline() as pipeline:
        pipeline.hset(keys.RELEASES, mapping={each: "{:.0f} {:.0f}".format(*known[each]) for each in running})
        if old := known.keys() - kept - running:
            pipeline.hdel(keys.RELEASES, *old)
        pipeline.expire(keys.RELEASES, KEPT_FOR)
        pipeline.execute()


def deploys(since: float) -> list[Deploy]:
    """Return the releases that workers run since that time or later, in order. One round trip a server."""
    first: dict[str, float] = {}
    for client in servers():
        for release, (began, _seen) in _read(client).items():
            first[release] = min(began, first.get(release, began))
    found = [Deploy(release, began) for release, began in first.items() if began >= since]
    return sorted(found, key=lambda deploy: deploy.since)


def _read(client: Redis) -> dict[str, tuple[float, float]]:
    """Return since when each release runs, and when it was last seen."""
    fields = client.hgetall(keys.RELEASES)
    times = {as_text(release): as_text(text).partition(" ") for release, text in fields.items()}
    return {release: (number_of(since), number_of(seen)) for release, (since, _, seen) in times.items()}
