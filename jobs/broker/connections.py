"""Connections to Redis: one pool per server and process, with time-outs short enough for a web request."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.resources import files
from typing import Any

import django_rq.connection_utils
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MasterDownError, NoScriptError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from jobs import conf, runtime
from jobs.broker import defaults, embedded
from jobs.broker.pool import WAIT_FOR_CONNECTION, AllInUseError, bounded
from jobs.broker.reading import ReadingClient
from jobs.errors import RedisUnavailableError

try:
    from hiredis import pack_command
except ImportError:  # redis-py packs by itself
    pack_command = None  # type: ignore[assignment]

Word = str | bytes | int | float  # of a Redis command

# One attempt, a second each to connect and to be answered: a page that defers a job must not hang with Redis.
# The pool already replaces a connection that the server closed meanwhile.
CLIENT_OPTIONS = {"socket_timeout": 1, "socket_connect_timeout": 1}
SENTINEL_OPTIONS = {"socket_timeout": 1, "socket_connect_timeout": 1}  # where SENTINEL_KWARGS says nothing


def get_connection(queue: str) -> Redis:
    """
    Return the client for one queue's server, thread-safe and shared: queues of one server get the same client.

    Raises KeyError for a queue that RQ_QUEUES does not have, ImproperlyConfigured if it has no address.
    """
    if runtime.stand_in is not None:
        return runtime.stand_in()  # type: ignore[no-any-return]
    config = settings.RQ_QUEUES[queue]
    if "URL" in config and not config["URL"]:
        raise ImproperlyConfigured(
            f"Queue {queue!r} has no Redis. Set REDIS_URL, for instance redis://localhost:6379/0; in development "
            "pip install 'django-mandate[server]' will do."
        )
    cached = _by_queue.get(queue)
    if cached is None or cached[0] is not config:
        cached = _by_queue[queue] = (config, _client(queue, config))
    return cached[1]


def by_server(queues: Iterable[str]) -> dict[Redis, list[str]]:
    """Return the clients of these queues' servers, each once, with its queues in their order."""
    queues_of: dict[Redis, list[str]] = {}
    for name in queues:
        queues_of.setdefault(get_connection(name), []).append(name)
    return queues_of


def servers() -> list[Redis]:
    """Return the clients of all queues' servers, each once."""
    return list(by_server(conf.queues()))


_by_queue: dict[str, tuple[dict[str, Any], Redis]] = {}
_by_server: dict[str, Redis] = {}


def _client(queue: str, config: dict[str, Any]) -> Redis:
    parameters = django_rq.connection_utils.filter_connection_params(config)
    server = json.dumps(parameters, sort_keys=True, default=str)
    if server not in _by_server:
        _by_server.setdefault(server, ReadingClient(connection_pool=_bounded(new_pool(queue, **CLIENT_OPTIONS))))
    return _by_server[server]


def new_pool(queue: str, **options: Any) -> ConnectionPool:
    """
    Return a pool of connections to one queue's server, with these options of redis-py's Connection and no retries.

    django-rq reads every form of RQ_QUEUES (URL, socket, Sentinel, TLS); options that it does not support are set on
    the pool before it opens its first connection.
    """
    pool = django_rq.connection_utils.get_connection(queue).connection_pool
    # Notices of maintenance need RESP 3, which is slower for our calls, or hiredis. RESP 2 is read without both.
    for name in [name for name in pool.connection_kwargs if name.startswith(("maint_", "orig_"))]:
        del pool.connection_kwargs[name]
    pool.connection_kwargs.update(
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
        **options,
    )
    pool.connection_class = _that_leaves_replicas(pool.connection_class)
    if settings.DEBUG and (folder := defaults.embedded_folder(settings.RQ_QUEUES[queue])):
        pool.connection_class = embedded.that_starts_its_server(pool.connection_class, folder)
    if isinstance(pool, SentinelConnectionPool):
        own = settings.RQ_QUEUES[queue].get("SENTINEL_KWARGS") or {}
        for sentinel in pool.sentinel_manager.sentinels:  # one that hangs must not keep us from trying the next
            sentinel.connection_pool.connection_kwargs.update(SENTINEL_OPTIONS | own, retry=Retry(NoBackoff(), 0))
    return pool


_DEFAULT_CONNECTIONS = ConnectionPool().max_connections  # redis-py's, if RQ_QUEUES says nothing


def _bounded(pool: ConnectionPool) -> ConnectionPool:
    """Return our own pool in its place, with the bound of RQ_QUEUES, else of JOBS["CONNECTIONS"]."""
    is_default = pool.max_connections == _DEFAULT_CONNECTIONS
    return bounded(pool, conf.connections() if is_default else pool.max_connections)


@lru_cache
def _that_leaves_replicas(kind: type) -> Any:
    """
    Return this class of connections, closed as soon as the server answers that it is not the primary. After a failover
    behind a name (DNS, a Kubernetes service), the old primary keeps its connections; only a new one resolves the name.
    """

    class Leaving(kind):  # type: ignore[misc]
        def read_response(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().read_response(*args, **kwargs)
            except ResponseError as error:
                if is_not_primary(error):
                    self.disconnect()
                raise

    return Leaving


def is_not_primary(error: BaseException) -> bool:
    """Return whether an error answer says that the server is a replica. A script may have wrapped the answer."""
    return isinstance(error, ReadOnlyError | MasterDownError) or "READONLY You can't write" in str(error)


def address(client: Redis) -> str:
    """Return the address of a client's server, for messages: without the password."""
    options: dict[str, Any] = client.connection_pool.connection_kwargs
    database = options.get("db") or 0
    if "path" in options:
        return f"unix://{options['path']}" + (f"?db={database}" if database else "")
    if "host" not in options:
        master = f"the Sentinel's master {getattr(client.connection_pool, 'service_name', '')}".rstrip()
        return master + (f"/{database}" if database else "")
    return f"{options['host']}:{options.get('port', 6379)}/{database}"


def same_server(one: Redis, other: Redis) -> bool:
    """Return whether two clients reach the same data."""
    return one is other or address(one) == address(other)


_LUA = files("jobs").joinpath("broker/lua")
_PARTS, _RARE = "-- Parts: ", "-- Rare parts: "  # begin the lines that name files of `lua/parts`


class Script:
    """
    A Lua script of `jobs/broker/lua` by the name of its file, with the parts that it needs.

    A rare part is `rare.<name>` to the others, and a call makes its functions when it asks for it first: to make those
    of all parts takes longer than most calls.
    """

    def __init__(self, name: str) -> None:
        self.text = _with_parts(_LUA.joinpath(name).read_text())
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


def _with_parts(text: str) -> str:
    head, mark, rest = text.partition(_PARTS)
    if not mark:
        return text
    parts: dict[str, str] = {}
    rare: dict[str, str] = {}
    rest = _gather(mark + rest, parts, rare)
    if rare:
        makers = [f"if part == '{name}' then\n{text}\nself.{name} = {name}\nend" for name, text in rare.items()]
        make = ("setmetatable(rare, { __index = function(self, part)", *makers, "return rawget(self, part)", "end })")
        return "\n".join((head, "local rare = {}", *parts.values(), *make, rest))
    return "\n".join((head, *parts.values(), rest))


def _gather(text: str, parts: dict[str, str], rare: dict[str, str]) -> str:
    """Gather the parts that a text names, each after those that it needs. Returns the text without these lines."""
    kept = []
    for line in text.splitlines():
        found = parts if line.startswith(_PARTS) else rare if line.startswith(_RARE) else None
        if found is None:
            kept.append(line)
            continue
        for name in line.partition(": ")[2].split(", "):
            if name not in parts and name not in rare:
                if found is rare:
                    rare[name] = ""  # two of these may need each other
                found[name] = _gather(_LUA.joinpath(f"parts/{name}.lua").read_text(), parts, rare)
    return "\n".join(kept)


def run_script(
    client: Redis, script: Script, keys: Sequence[Word], arguments: Sequence[Word], *, is_repeatable: bool = False
) -> Any:
    """
    Run a script on a connection of the client's pool, by its digest; a server that has lost it gets the text again.

    A server that is no longer the primary has written nothing: the script is sent once more, over a new connection.
    With `is_repeatable`, that is also done after a lost connection: a load balancer may have forgotten one that was
    idle, and whether the script ran is unknown. Time-outs are not followed by another try.

    The client's own layers above the connection (retries, callbacks, metrics) cost more than the call itself.
    """
    if runtime.stand_in is not None and not isinstance(client, Redis):
        return client.run(script, keys, arguments)
    pool = client.connection_pool
    try:
        return _run_once(pool, script, keys, arguments)
    except AllInUseError:
        raise
    except (RedisConnectionError, ResponseError) as error:
        if not is_not_primary(error) and not (is_repeatable and isinstance(error, RedisConnectionError)):
            raise
    pool.disconnect(inuse_connections=False)  # the idle ones lead to the same place
    return _run_once(pool, script, keys, arguments)


def _run_once(pool: ConnectionPool, script: Script, keys: Sequence[Word], arguments: Sequence[Word]) -> Any:
    connection: Any = pool.get_connection()
    try:
        try:
            return _ask(connection, "EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return _ask(connection, "EVAL", script.text, len(keys), *keys, *arguments)
    except ResponseError:
        raise
    except BaseException:
        connection.disconnect()  # the answer may be under way, or half read
        raise
    finally:
        pool.release(connection)


def run_many(client: Redis, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Word]]]) -> list[Any]:
    """Run a script with each of these keys and arguments, in one round trip; each run is atomic by itself."""

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
    connection.send_packed_command(packed(connection, words), check_health=False)
    return connection.read_response(disable_decoding=True)


def packed(connection: Any, words: tuple[Word, ...]) -> Any:
    """Return a command as `send_packed_command` takes it. redis-py looks at each word twice more than hiredis does."""
    return connection.pack_command(*words) if pack_command is None else (pack_command(words),)  # type: ignore[arg-type]


@contextmanager
def reaching(client: Redis) -> Iterator[None]:
    """Convert redis-py's connection errors and time-outs to one error, which names the address and what to check."""
    try:
        yield
    except (RedisConnectionError, RedisTimeoutError) as error:
        if isinstance(error, AllInUseError):
            raise RedisUnavailableError(
                f"All {client.connection_pool.max_connections} connections of this process to {address(client)} "
                f"were in use for {WAIT_FOR_CONNECTION} s. Run fewer threads, or raise JOBS['CONNECTIONS']."
            ) from error
        raise RedisUnavailableError(
            f"No answer from Redis at {address(client)}: {error}. Check that it runs and that REDIS_URL is right."
        ) from error
