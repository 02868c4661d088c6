"""The system checks of limits and shares."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.utils.module_loading import import_string

from jobs import conf
from jobs.broker.connections import address, by_server
from jobs.limits import policy
from jobs.limits.control import declared
from jobs.limits.policy import Rate
from jobs.record import registry


def check_limits(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """
    jobs.E022: the queues of the commands that share a limit lie on several servers. jobs.E023: JOBS["SHARE"] is neither
    the name of a field nor the path of a function. jobs.E025: the commands of a group declare different values.
    """
    messages: list[CheckMessage] = []
    for limit_id, (_, commands) in declared().items():
        values = {name: _values_of(name, limit_id) for name in commands}
        if len(set(values.values())) > 1:
            different = ", ".join(f"{name}: {value}" for name, value in values.items())
            messages.append(
                Error(
                    f"The limit {limit_id} has different values in the commands of its group: {different}.",
                    hint="They share one limit. Declare it once, and give it to each: limits = [SHOPS].",
                    id="jobs.E025",
                )
            )
        names = {registry.all_commands()[name].queue for name in commands}
        if len(found := _servers(names)) > 1:
            messages.append(
                Error(
                    f"The limit {limit_id} belongs to {', '.join(commands)}, whose queues lie on several servers: "
                    f"{', '.join(found)}.",
                    hint="Each server would admit as many. Give the commands queues of one server, or own groups.",
                    id="jobs.E022",
                )
            )
    share = conf.get("SHARE")
    if share is not None and not _is_share(share):
        messages.append(
            Error(
                f"JOBS['SHARE'] = {share!r} is neither the name of a field nor the dotted path of a function.",
                hint="Correct it, or set it to None.",
                id="jobs.E023",
            )
        )
    return messages


def _values_of(name: str, limit_id: str) -> str:
    """Return what a command declares for a limit: "1 at once", or "40 in 60 s, 10 at once"."""
    command: Any = registry.get(name)
    found = dict(zip(policy.ids(command, name), command.limits, strict=True))[limit_id]
    if isinstance(found, Rate):
        return f"{found.n} in {found.seconds:g} s, {found.most} at once"
    return f"{found.n} at once"


def _servers(queues: set[str]) -> list[str]:
    """Return the addresses of these queues' servers, but for queues that another check reports."""
    known = [name for name in queues if settings.RQ_QUEUES.get(name)]
    try:
        return [address(client) for client in by_server(known)]
    except Exception:  # a wrong address is what another check reports
        return []


def _is_share(share: object) -> bool:
    if not isinstance(share, str) or not share:
        return False
    if "." not in share:
        return share.isidentifier()
    try:
        return callable(import_string(share))
    except ImportError:
        return False
