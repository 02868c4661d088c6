"""System checks: `manage.py check` reports problems before a job meets them. Ids are listed in docs/reference.md."""

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections
from django.utils.module_loading import import_string
from redis.exceptions import RedisError

from jobs import conf
from jobs.broker import defaults, names
from jobs.broker.connections import address, get_connection
from jobs.client.options import database_of
from jobs.errors import ScheduleError
from jobs.limits.checks import check_limits
from jobs.outbox.checks import check_outbox
from jobs.record import registry, webhooks
from jobs.recurring.entry import COLLECTOR
from jobs.recurring.entry import listed as listed_entries

TAG = "jobs"
OLDEST_REDIS = (5, 0)


def check_queues(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """
    jobs.E001: a command's queue is not listed. jobs.E002: RQ_QUEUES and JOBS["QUEUES"] differ. jobs.E011: the target of
    a queue is not a number of seconds above 0. jobs.E012: a queue's name cannot be one.
    """
    listed = list(conf.queues())
    given = sorted(settings.RQ_QUEUES, key=str)
    messages: list[CheckMessage] = []
    if set(listed) != set(settings.RQ_QUEUES):
        messages.append(
            Error(
                f"RQ_QUEUES has {given}, but JOBS['QUEUES'] has {sorted(listed, key=str)}.",
                hint="Give both the same queues; best derive one from the other.",
                id="jobs.E002",
            )
        )
    messages += [
        Error(
            f"{name} names the queue {command.queue!r}, which does not exist.",
            hint=f"The queues are: {', '.join(map(str, listed))}.",
            obj=command,
            id="jobs.E001",
        )
        for name, command in registry.all_commands().items()
        if command.queue not in (*listed, conf.DEFAULT_QUEUE)
    ]
    for name in listed:
        try:
            names.check_queue(name)
        except ValueError as error:
            messages.append(Error(str(error), hint="Rename it in JOBS['QUEUES'] and RQ_QUEUES.", id="jobs.E012"))
        try:
            conf.target(name)
        except ImproperlyConfigured as error:
            hint = 'Write {"about": "what belongs there", "target": 60}, or the text alone.'
            messages.append(Error(str(error), hint=hint, id="jobs.E011"))
    return messages


def check_webhook_hosts(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """jobs.E013: an entry of JOBS["WEBHOOK_HOSTS"] is not a host."""
    try:
        webhooks.hosts()
    except ImproperlyConfigured as error:
        return [Error(str(error), hint="Correct it in JOBS['WEBHOOK_HOSTS'].", id="jobs.E013")]
    return []


def check_lifespan(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """jobs.E024: JOBS["LOOP_LIFESPAN"] cannot be imported, or makes no async context manager."""
    try:
        conf.lifespan()
    except ImproperlyConfigured as error:
        return [Error(str(error), hint="Correct the path, or set it to None.", id="jobs.E024")]
    return []


def check_names(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """jobs.E003: two commands have one name, so a payload could mean either."""
    return [
        Error(
            f"Two commands are called {name}: {first.__module__}.{first.__qualname__} and "
            f"{second.__module__}.{second.__qualname__}.",
            hint="Rename one: a payload names its command as app_label.ClassName.",
            id="jobs.E003",
        )
        for name, first, second in registry.conflicts()
    ]


def check_installed_order(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """jobs.E004: django_rq stands before jobs, so its rqworker command would be used."""
    order = [app.name for app in apps.get_app_configs()]
    if "django_rq" in order and order.index("django_rq") < order.index("jobs"):
        return [
            Error(
                "'django_rq' stands before 'jobs' in INSTALLED_APPS, so `manage.py rqworker` is django-rq's own.",
                hint="Put 'jobs' first: the first app listed gives the command.",
                id="jobs.E004",
            )
        ]
    return []


def check_redis(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """
    jobs.E005: a queue has no Redis address. jobs.E006: its server is too old. jobs.E010: it is a Redis Cluster.

    A server that does not answer is not reported: checks run at build time, too.
    """
    without_address = [name for name, config in settings.RQ_QUEUES.items() if config.get("URL") == ""]
    if without_address:
        return [
            Error(
                f"No Redis address for the queues {', '.join(without_address)}.",
                hint="Set REDIS_URL, for instance redis://localhost:6379/0, or give the queue a URL in RQ_QUEUES. In "
                "development the embedded server will do: pip install 'django-mandate[server]'.",
                id="jobs.E005",
            )
        ]
    messages: list[CheckMessage] = []
    # The embedded server is right, and would be started by asking.
    queues = [name for name, config in settings.RQ_QUEUES.items() if not defaults.embedded_folder(config)]
    for client in {id(c): c for c in map(get_connection, queues)}.values():
        try:
            server = client.info("server")
        except RedisError:
            continue
        version = str(server["redis_version"])
        if "cluster" in (server.get("redis_mode"), server.get("server_mode")):  # Redis's word, Valkey's
            messages.append(
                Error(
                    f"Redis at {address(client)} is a cluster; jobs needs all keys of a queue on one server.",
                    hint="Use one server, with Sentinel for failover; or give queues servers of their own.",
                    id="jobs.E010",
                )
            )
        if tuple(map(int, version.split(".")[:2])) < OLDEST_REDIS:
            messages.append(
                Error(
                    f"Redis at {address(client)} is {version}; jobs needs {'.'.join(map(str, OLDEST_REDIS))} or newer.",
                    hint="Upgrade the server; Redis 7 or Valkey 8 and newer are recommended.",
                    id="jobs.E006",
                )
            )
    return messages


def check_schedule(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """
    jobs.E007: a recurring entry is invalid. jobs.E008: two entries have the same name. jobs.W005: an entry collects the
    figures, which the workers do.
    """
    try:
        listed = listed_entries()
    except ScheduleError as error:
        return [Error(str(error), hint="Name a list of jobs.scheduler.Entry.", id="jobs.E007")]
    messages: list[CheckMessage] = [
        Error(f"The recurring entry {entry.name!r}: {problem}", hint='Correct it in JOBS["SCHEDULE"].', id="jobs.E007")
        for entry in listed
        for problem in entry.problems()
    ]
    for at, entry in enumerate(listed):
        for other in listed[:at]:
            if entry.slug == other.slug:
                messages.append(
                    Error(
                        f"Two recurring entries are called {entry.name!r} and {other.name!r}.",
                        hint="Rename one.",
                        id="jobs.E008",
                    )
                )
    messages += [
        Warning(
            f"The recurring entry {entry.name!r} runs {COLLECTOR}, and workers collect the figures by themselves.",
            hint='Remove the entry from JOBS["SCHEDULE"].',
            id="jobs.W005",
        )
        for entry in listed
        if entry.command in (COLLECTOR, registry.get(COLLECTOR))
    ]
    return messages


def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """
    jobs.E014: RQ["JOB_CLASS"] or RQ["SCHEDULER_CLASS"] is not ours, nor derived from it. jobs.W001: JOBS has a key that
    nothing reads.
    """
    messages: list[CheckMessage] = []
    for key, ours in defaults.CLASSES.items():
        given = settings.RQ.get(key)
        try:
            is_ours = issubclass(import_string(str(given)), import_string(ours))
        except (ImportError, TypeError):
            is_ours = False
        if not is_ours:
            messages.append(
                Error(
                    f"RQ[{key!r}] is {given!r}, which is not derived from {ours}.",
                    hint=f"Leave {key} out of RQ, or derive your class from {ours}.",
                    id="jobs.E014",
                )
            )
    for key in sorted(getattr(settings, "JOBS", {}).keys() - conf.DEFAULTS.keys(), key=str):
        meant = get_close_matches(str(key), conf.DEFAULTS, 1) or ["one of those in docs/reference.md"]
        messages.append(
            Warning(f"JOBS has the key {key!r}, which nothing reads.", hint=f"Give {meant[0]}.", id="jobs.W001")
        )
    return messages


def check_extras(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """jobs.W002: a command asks for profiles, and pyinstrument is not installed."""
    if find_spec("pyinstrument"):
        return []
    return [
        Warning(
            f"{name} has profile_rate = {command.profile_rate}, but no profiler is installed.",
            hint="pip install 'django-mandate[profile]'",
            obj=command,
            id="jobs.W002",
        )
        for name, command in registry.all_commands().items()
        if command.profile_rate
    ]


def check_atomic(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """jobs.E018: an atomic command names a database that DATABASES does not have."""
    return [
        Error(
            f"{name} has atomic = {command.atomic!r}, but DATABASES has no such alias.",
            hint=f"The aliases are: {', '.join(connections)}. True stands for {DEFAULT_DB_ALIAS!r}.",
            obj=command,
            id="jobs.E018",
        )
        for name, command in registry.all_commands().items()
        if command.atomic and database_of(command) not in connections.settings
    ]


def check_development(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """jobs.W003, of `check --deploy`: queues lie on the embedded server, which is for development."""
    queues = [name for name, config in settings.RQ_QUEUES.items() if defaults.embedded_folder(config)]
    if not queues:
        return []
    return [
        Warning(
            f"The queues {', '.join(queues)} lie on the embedded server, which is for development.",
            hint="Run a Redis or Valkey server, and set REDIS_URL.",
            id="jobs.W003",
        )
    ]


def check_namesakes(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """jobs.W004: the path has another package `jobs`, which this one hides; the other way round, nothing here runs."""
    ours = Path(__file__).parent
    others = {path.resolve() for folder in sys.path if (path := Path(folder, "jobs")).joinpath("__init__.py").is_file()}
    return [
        Warning(
            f"There is another package 'jobs' in {other.parent}, which cannot be imported: {ours} comes first.",
            hint="Rename yours: a process can hold one package of that name.",
            id="jobs.W004",
        )
        for other in sorted(others - {ours.resolve()})
    ]


ALL = (
    check_schedule,
    check_queues,
    check_webhook_hosts,
    check_lifespan,
    check_names,
    check_namesakes,
    check_installed_order,
    check_redis,
    check_settings,
    check_extras,
    check_limits,
    check_outbox,
    check_atomic,
)
