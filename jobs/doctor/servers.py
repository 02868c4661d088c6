"""The Redis servers: whether they answer, persist data without eviction, and agree on the time."""

import time
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from jobs import conf
from jobs.broker import keys
from jobs.broker.connections import address
from jobs.broker.connections import servers as all_servers
from jobs.broker.times import as_text
from jobs.checks import OLDEST_REDIS
from jobs.doctor.finding import Finding, Severity, shell

UNREACHABLE = (RedisConnectionError, RedisTimeoutError)
SKEW = 2.0  # seconds by which this machine's clock may differ from the server's
FULL = 0.9  # share of maxmemory, and of maxclients
KEYS_LOOKED_AT = 50_000  # keys whose type is read; besides, those that all jobs and queues share
SHOWN = 20  # keys of a wrong type that are reported


def reach() -> Iterator[Finding]:
    """Report servers that do not answer."""
    for client in all_servers():
        try:
            client.ping()
        except UNREACHABLE as error:
            yield Finding(
                Severity.ERROR,
                f"Redis at {address(client)} does not answer: {error}",
                "No job can be enqueued, taken or finished; workers wait for it.",
                "Start it, or correct REDIS_URL. redis-cli ping says PONG when it runs.",
            )
        except RedisError as error:  # the server's refusal, or one of redis-py, which has not asked the server
            yield Finding(
                Severity.ERROR,
                f"Redis at {address(client)} cannot be used: {error}",
                "No job can be enqueued, taken or finished; workers wait for it.",
                "Correct what the error names: an option in RQ_QUEUES, the server, or the installed version of redis.",
            )


def findings() -> Iterator[Finding]:
    """Report settings and states of a server that may lose or delay jobs."""
    for client in all_servers():
        where, info = f"Redis at {address(client)}", client.info()
        yield from _kind(client, where, info)
        yield from _memory(client, where, info)
        yield from _disk(client, where, info)
        yield from _clock(client, where)
        yield from _messages(client, where)
        yield from _aside(client, where)
        yield from islice(_of_wrong_type(client, where), SHOWN)


def _of_wrong_type(client: Redis, where: str) -> Iterator[Finding]:
    found: dict[str, str] = {}
    names = chain(keys.shared(conf.queues()), islice(client.scan_iter(count=1_000), KEYS_LOOKED_AT))
    wanted = ((as_text(name), name) for name in names)
    known = ((text, name, keys.type_of(text)) for text, name in wanted if keys.type_of(text))
    while some := list(islice(known, 1_000)):
        with client.pipeline(transaction=False) as pipeline:
            for _, name, _ in some:
                pipeline.type(name)
            for (text, _, wanted_type), kind in zip(some, map(as_text, pipeline.execute()), strict=True):
                if kind not in (wanted_type, "none") and text not in found:
                    found[text] = kind
                    yield Finding(
                        Severity.WARNING,
                        f"{where} has a {kind} in the key {text!r}, where jobs or RQ keep a {wanted_type}.",
                        "What belongs there is missing. Whoever wrote it may do so again.",
                        f"Find out who writes there. Then: {shell('redis-cli', 'DEL', text)}",
                    )


def _messages(client: Redis, where: str) -> Iterator[Finding]:
    channel = keys.woken("doctor")  # to which nobody listens
    try:
        client.publish(channel, "")
    except NoPermissionError as error:
        yield Finding(
            Severity.WARNING,
            f"{where} sends no messages of this user on {channel!r}: {error}",
            "job.wait and job.await_result are refused, or notice an end up to 20 seconds late.",
            "Give the user the channels: ACL SETUSER <name> '&jobs:woken:*', and +@pubsub.",
        )


def _aside(client: Redis, where: str) -> Iterator[Finding]:
    put: Any = client.hkeys(keys.ASIDE)
    for key in map(as_text, sorted(put)):
        there = f"{keys.ASIDE}:{key}"
        yield Finding(
            Severity.WARNING,
            f"{where} had something else in the key {key!r} than jobs or RQ keep there; it is in {there!r} now.",
            "What stood there before is not known any more; and who wrote it may do so again.",
            f"Find out who writes there. Then: {shell('redis-cli', 'DEL', there)}; "
            f"{shell('redis-cli', 'HDEL', keys.ASIDE, key)}",
        )


def _kind(client: Redis, where: str, info: dict[str, Any]) -> Iterator[Finding]:
    version = str(info["redis_version"])
    if tuple(map(int, version.split(".")[:2])) < OLDEST_REDIS:
        yield Finding(
            Severity.ERROR,
            f"{where} is {version}, which is too old: {'.'.join(map(str, OLDEST_REDIS))} is the oldest that will do.",
            "Scripts fail in it.",
            "Upgrade it; Redis 7 or Valkey 8 and newer are recommended.",
        )
    elif not _supports(client, "BLMOVE"):
        yield Finding(
            Severity.NOTE,
            f"{where} ({version}) has no BLMOVE: workers ask it for jobs every 50 ms.",
            "A job waits that long at the most, and idle workers keep the server busy.",
            "Upgrade it to Redis 6.2 or Valkey, or give BLMOVE its name back.",
        )
    if int(info.get("cluster_enabled", 0)):
        yield Finding(
            Severity.ERROR,
            f"{where} runs as Redis Cluster.",
            "Scripts use keys of several slots at once, which a cluster refuses.",
            "Use a server without cluster-enabled; Sentinel makes it highly available.",
        )
    if info.get("role") in ("slave", "replica"):
        yield Finding(
            Severity.ERROR,
            f"{where} is a replica.",
            "It refuses writes.",
            "Point REDIS_URL at the primary, or use Sentinel.",
        )
    most = int(_config(client, "maxclients") or 0)
    if most and int(info["connected_clients"]) > FULL * most:
        yield Finding(
            Severity.WARNING,
            f"{where} has {info['connected_clients']:,} of {most:,} connections.",
            "It refuses further ones: defer fails, and workers cannot come back.",
            "CONFIG SET maxclients, or fewer processes; redis-cli client list tells whose they are.",
        )


def _memory(client: Redis, where: str, info: dict[str, Any]) -> Iterator[Finding]:
    limit, policy = int(info.get("maxmemory", 0)), info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield Finding(
            Severity.ERROR if limit else Severity.WARNING,
            f"{where} evicts keys when it is full (maxmemory-policy {policy})"
            f"{'.' if limit else '; without maxmemory it is never full, yet.'}",
            "An evicted key is a lost job.",
            "CONFIG SET maxmemory-policy noeviction, and the same in its configuration file.",
        )
    if limit and info["used_memory"] > FULL * limit:
        yield Finding(
            Severity.WARNING,
            f"{where} is {info['used_memory'] / limit:.0%} full.",
            "When it is full, nothing can be enqueued and outcomes wait.",
            "Raise maxmemory, lower result_ttl, or: python manage.py jobs delete --state dead",
        )


def _disk(client: Redis, where: str, info: dict[str, Any]) -> Iterator[Finding]:
    if not int(info.get("aof_enabled", 0)):
        if _config(client, "save") in ("", None):
            yield Finding(
                Severity.WARNING,
                f"{where} writes nothing to disk.",
                "A restart loses every job.",
                "CONFIG SET appendonly yes, and appendfsync everysec or always.",
            )
        else:
            yield Finding(
                Severity.WARNING,
                f"{where} writes to disk now and then alone (save, without appendonly).",
                "A crash loses the jobs of minutes.",
                "CONFIG SET appendonly yes, and appendfsync everysec or always.",
            )
    elif _config(client, "appendfsync") == "no":
        yield Finding(
            Severity.WARNING,
            f"{where} leaves it to the system when its file is written (appendfsync no).",
            "A crash of the machine loses what was accepted in the last half minute or so.",
            "CONFIG SET appendfsync everysec (about two seconds may be lost) or always (nothing).",
        )
    names = ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
    if failed := [name for name in names if info.get(name, "ok") != "ok"]:
        yield Finding(
            Severity.ERROR,
            f"{where} could not write to disk ({', '.join(failed)}).",
            "It may refuse writes, and a restart loses what is not on disk.",
            "Look at its log and its disk: df -h.",
        )


def _clock(client: Redis, where: str) -> Iterator[Finding]:
    seconds, microseconds = client.time()
    skew = time.time() - (seconds + microseconds / 1e6)
    if abs(skew) > SKEW:
        yield Finding(
            Severity.WARNING,
            f"This machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} that of {where}.",
            "Delays that are worked out here come too early or too late.",
            "Set both by NTP: timedatectl set-ntp true.",
        )


def _config(client: Redis, name: str) -> str | None:
    try:
        values: dict[Any, Any] = client.config_get(name)
    except RedisError:  # a hosted server may forbid CONFIG
        return None
    return {as_text(key): as_text(value) for key, value in values.items()}.get(name)


def _supports(client: Redis, command: str) -> bool:
    try:
        client.execute_command(command)  # type: ignore[no-untyped-call]
    except ResponseError as error:
        return "unknown command" not in str(error).lower()
    return True
