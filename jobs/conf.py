"""The package's settings: the `JOBS` dict of a project, read when used, each name with its default here."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

DEFAULT_TARGET = 60.0  # seconds
DEFAULT_QUEUE = "default"  # Django's and RQ's own word for it

DEFAULTS: dict[str, Any] = {
    # Queue names, highest priority first, with a line each on what belongs there, or a dict: {"about": that line,
    # "target": seconds that its first job may have waited}. Default: the keys of RQ_QUEUES.
    "QUEUES": None,
    # Dotted paths of functions outside the installed apps that plain RQ jobs may call.
    "ALLOWED_FUNCTIONS": (),
    # Whether plain RQ jobs may arrive pickled. Whoever can write to Redis can then run any code.
    "ALLOW_PICKLE": False,
    # Hosts that the webhooks of plain RQ jobs may be sent to.
    "WEBHOOK_HOSTS": (),
    # Dotted paths of functions `(job, error)` that are called for each failed attempt, such as error trackers.
    "ON_FAILURE": (),
    # The same for each job that has failed for good.
    "ON_DEAD": (),
    # The dotted path of the list of recurring entries; None: no entries.
    "SCHEDULE": None,
    # Whether the package's own recurring entry is added where a command is atomic: it deletes old receipts each hour.
    "CLEAN_UP": True,
    # Whether each minute a worker records the queues' lengths and waits, and sums up the counts of attempts.
    "COLLECT_METRICS": True,
    # Names of fields that the dashboard shows as [filtered], for every command.
    "FILTERED_FIELDS": ("password", "token", "secret", "api_key"),
    # Whether OpenTelemetry spans record enqueueing and attempts; needs opentelemetry-api. Read on start-up.
    "TRACING": False,
    # Tokens with which programs may read the dashboard's API and the metrics, as `Authorization: Bearer <token>`.
    "API_TOKENS": (),
    # Dead jobs that a queue keeps; beyond that the oldest are removed.
    "DEAD_LIMIT": 10_000,
    # The release that runs, such as a commit's name; "": workers show a digest of their commands' names and fields.
    "VERSION": "",
    # How many jobs are claimed at once while jobs are short; 1: never more than there are idle threads.
    "BATCH": 64,
    # Bytes of a result, and characters of a log, that are kept with a job; of a larger result only the size is kept.
    "RESULT_LIMIT": 1_048_576,
    # Connections that a process keeps to one server for deferring and reading; a thread waits up to a second for one.
    "CONNECTIONS": 100,
    # The database alias of the outbox, in whose transactions durable jobs are written; None: no job can be durable.
    "OUTBOX": None,
    # When a durable job leaves the outbox: None when Redis has it, "ended" when it has ended.
    "OUTBOX_KEEP": None,
    # Whether every command is durable.
    "DURABLE": False,
    # The dotted path of an async context manager without arguments, in which each worker process's event loop runs.
    "LOOP_LIFESPAN": None,
    # By what queues are shared, for commands without a `share`: a field, or a function of the command (dotted path).
    "SHARE": None,
    # Whether the session state of a persistent database connection (CONN_MAX_AGE) is reset after each attempt.
    "RESET_CONNECTIONS": True,
}


def get(name: str) -> Any:
    """Return the project's value of a setting, or its default. KeyError for an unknown name."""
    default = DEFAULTS[name]
    return getattr(settings, "JOBS", {}).get(name, default)


def batch() -> int:
    """Return how many jobs a worker claims at once while jobs are short. ImproperlyConfigured for an invalid value."""
    return _count("BATCH")


def connections() -> int:
    """Return how many connections a process keeps to one server. ImproperlyConfigured for an invalid value."""
    return _count("CONNECTIONS")


def _count(name: str) -> int:
    value = get(name)
    if type(value) is not int or value < 1:
        raise ImproperlyConfigured(f"JOBS[{name!r}] is {value!r}; it must be a whole number, 1 or more.")
    return value


def result_limit() -> int:
    """Return how many bytes of a result are kept with its job. ImproperlyConfigured for an invalid value."""
    return _count("RESULT_LIMIT")


def queues() -> Mapping[str, str]:
    """Return the queues in priority order, each with its line on what belongs there, which may be empty."""
    listed = get("QUEUES")
    if listed is None:
        return dict.fromkeys(settings.RQ_QUEUES, "")
    return {name: row if isinstance(row, str) else row.get("about", "") for name, row in listed.items()}


def is_queue(name: str) -> bool:
    """Return whether a queue has that name."""
    listed = get("QUEUES")
    return name in (settings.RQ_QUEUES if listed is None else listed)


def target(queue: str) -> float:
    """
    Return how many seconds the first job of a queue may wait before that is a problem: its `target` in JOBS["QUEUES"],
    or DEFAULT_TARGET.

    Raises ImproperlyConfigured for a target that is not a number above 0.
    """
    row = (get("QUEUES") or {}).get(queue, "")
    value = DEFAULT_TARGET if isinstance(row, str) else row.get("target", DEFAULT_TARGET)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ImproperlyConfigured(
            f"JOBS['QUEUES'][{queue!r}]['target'] is {value!r}; it must be a number of seconds above 0."
        )
    return float(value)


def lifespan() -> Callable[[], AbstractAsyncContextManager[Any]]:
    """
    Return the function that makes the context manager of `JOBS["LOOP_LIFESPAN"]`; without it, one that does nothing.

    Raises ImproperlyConfigured for a path that cannot be imported, and for what makes no async context manager.
    """
    path = get("LOOP_LIFESPAN")
    if path is None:
        return nullcontext
    try:
        found: Any = import_string(path)
    except Exception as error:  # the module's own code may raise anything
        raise ImproperlyConfigured(f"JOBS['LOOP_LIFESPAN'] = {path!r} cannot be imported: {error!r}") from error
    if problem := _problem_of_lifespan(found):
        raise ImproperlyConfigured(f"JOBS['LOOP_LIFESPAN'] = {path!r} makes no async context manager: {problem}.")
    return found  # type: ignore[no-any-return]


def _problem_of_lifespan(found: Any) -> str:
    if not callable(found):
        return f"{found!r} cannot be called"
    if inspect.isclass(found) and not (hasattr(found, "__aenter__") and hasattr(found, "__aexit__")):
        return "the class has no __aenter__ and __aexit__"
    if inspect.isasyncgenfunction(found):
        return "the function lacks the decorator contextlib.asynccontextmanager"
    if inspect.iscoroutinefunction(found):
        return "it is a coroutine function"
    if inspect.isgeneratorfunction(inspect.unwrap(found)):
        return "it is a plain function with `yield`, not an async one"
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        return f"it is called without arguments, and takes some ({error})"
    except ValueError:  # one of C that says nothing
        pass
    return ""
