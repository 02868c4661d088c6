"""Connections to Redis: one pool per server and process, with time-outs that a web request can bear."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import django_rq.connection_utils
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from jobs import conf, runtime
from jobs.broker.reading import ReadingClient
from jobs.errors import RedisUnavailableError

Word = str | bytes | int | float  # of a command

# One attempt, a second each to connect and to be answered: a page that defers a job must not hang with Redis.
# `can_read` in redis-py's pool already replaces a connection that the server closed meanwhile.
CLIENT_OPTIONS = {"socket_timeout": 1, "socket_connect_timeout": 1}
SENTINEL_OPTIONS = {"socket_timeout": 1, "socket_connect_timeout": 1}  # where SENTINEL_KWARGS says nothing


def get_connection(queue: str) -> Redis:
    """
    The client for one queue's server, thread-safe and shared: queues of one server get the same one.

    Raises KeyError for a queue that RQ_QUEUES does not have, ImproperlyConfigured when it has no address.
    """
    if runtime.stand_in is not None:
        return runtime.stand_in()  # type: ignore[no-any-return]
    config = settings.RQ_QUEUES[queue]
    if "URL" in config and not config["URL"]:
        raise ImproperlyConfigured(
            f"Queue {queue!r} has no Redis. Set REDIS_URL, for instance redis://localhost:6379/0."
        )
    known = _by_queue.get(queue)
    if known is None or known[0] is not config:
        known = _by_queue[queue] = (config, _client(queue, config))
    return known[1]


def by_server(queues: Iterable[str]) -> dict[Redis, list[str]]:
    """The clients of these queues' servers, each once, with its queues in their order."""
    found: dict[Redis, list[str]] = {}
    for name in queues:
        found.setdefault(get_connection(name), []).append(name)
    return found


def servers() -> list[Redis]:
    """The clients of all queues' servers, each once."""
    return list(by_server(conf.queues()))


_by_queue: dict[str, tuple[dict[str, Any], Redis]] = {}
_by_server: dict[str, Redis] = {}


def _client(queue: str, config: dict[str, Any]) -> Redis:
    parameters = django_rq.connection_utils.filter_connection_params(config)
    server = json.dumps(parameters, sort_keys=True, default=str)
    if server not in _by_server:
        _by_server.setdefault(server, ReadingClient(connection_pool=new_pool(queue, **CLIENT_OPTIONS)))
    return _by_server[server]


def new_pool(queue: str, **options: Any) -> ConnectionPool:
    """
    A pool of connections to one queue's server, with these options of redis-py's Connection and no retries.

    django-rq reads every form of RQ_QUEUES (URL, socket, Sentinel, TLS); options it has no word for are set on the
    pool before it opens its first connection.
    """
    pool = django_rq.connection_utils.get_connection(queue).connection_pool
    pool.connection_kwargs.update(protocol=2, retry=Retry(NoBackoff(), 0), **options)
    if isinstance(pool, SentinelConnectionPool):
        own = settings.RQ_QUEUES[queue].get("SENTINEL_KWARGS") or {}
        for sentinel in pool.sentinel_manager.sentinels:  # one that hangs must not keep us from asking the next
            sentinel.connection_pool.connection_kwargs.update(SENTINEL_OPTIONS | own, retry=Retry(NoBackoff(), 0))
    return pool


def address(client: Redis) -> str:
    """Where a client connects to, for messages: never with the password."""
    options: dict[str, Any] = client.connection_pool.connection_kwargs
    database = options.get("db") or 0
    if "path" in options:
        return f"unix://{options['path']}" + (f"?db={database}" if database else "")
    if "host" not in options:
        master = f"the Sentinel's master {getattr(client.connection_pool, 'service_name', '')}".rstrip()
        return master + (f"/{database}" if database else "")
    return f"{options['host']}:{options.get('port', 6379)}/{database}"


def same_server(one: Redis, other: Redis) -> bool:
    """Whether two clients reach the same data."""
    return one is other or address(one) == address(other)


_LUA = files("jobs").joinpath("broker/lua")


class Script:
    """A Lua script of `jobs/broker/lua`, by the names of its parts in order: shared ones come first."""

    def __init__(self, *names: str) -> None:
        self.text = "\n".join(_LUA.joinpath(name).read_text() for name in names)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


def run_script(client: Redis, script: Script, keys: Sequence[Word], arguments: Sequence[Word]) -> Any:
    """
    Run a script on a connection of the client's pool, by its digest; a server that lost it is given the text again.

    The client's own layers above the connection (retries, callbacks, metrics) cost more than the call itself.
    """
    if runtime.stand_in is not None and not isinstance(client, Redis):
        return client.run(script, keys, arguments)
    connection: Any = client.connection_pool.get_connection()
    try:
        try:
            return _ask(connection, "EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return _ask(connection, "EVAL", script.text, len(keys), *keys, *arguments)
    finally:
        client.connection_pool.release(connection)


def run_many(client: Redis, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Word]]]) -> list[Any]:
    """The same script with each of these keys and arguments, in one round trip; each run is atomic by itself."""

    def answers() -> list[Any]:
        with client.pipeline(transaction=False) as pipeline:
            for keys, arguments in calls:
                pipeline.evalsha(script.sha, len(keys), *keys, *arguments)
            return list(pipeline.execute())

    try:
        return answers()
    except NoScriptError:
        client.script_load(script.text)
        return answers()


def _ask(connection: Any, *words: Word) -> Any:
    connection.send_packed_command(connection.pack_command(*words), check_health=False)
    return connection.read_response(disable_decoding=True)


@contextmanager
def reaching(client: Redis) -> Iterator[None]:
    """Turn redis-py's ways of saying "no answer" into one error that names the address and what to check."""
    try:
        yield
    except (RedisConnectionError, RedisTimeoutError) as error:
        raise RedisUnavailableError(
            f"No answer from Redis at {address(client)}: {error}. Check that it runs and that REDIS_URL is right."
        ) from error
