"""A middleware that counts what each answer cost; for gunicorn's sync worker, which answers one request at a time."""

import time
from collections.abc import Callable
from typing import Any

from django.db import connections
from redis.connection import AbstractConnection

TRIPS, QUERIES, WORKED = "X-Redis-Trips", "X-SQL-Queries", "X-Process-Time"


def counted(get_response: Callable[..., Any]) -> Callable[..., Any]:
    """Says in headers of each response how often Redis was asked, the database, and the milliseconds of CPU time."""
    trips = queries = 0
    send = AbstractConnection.send_packed_command

    def sending(self: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal trips
        trips += 1
        send(self, *args, **kwargs)

    def querying(execute: Any, *args: Any) -> Any:
        nonlocal queries
        queries += 1
        return execute(*args)

    AbstractConnection.send_packed_command = sending  # type: ignore[method-assign]

    def respond(request: Any) -> Any:
        nonlocal trips, queries
        trips = queries = 0
        begun = time.process_time()
        with connections["default"].execute_wrapper(querying):
            response = get_response(request)
        response[TRIPS], response[QUERIES] = str(trips), str(queries)
        response[WORKED] = f"{(time.process_time() - begun) * 1_000:.3f}"
        return response

    return respond
