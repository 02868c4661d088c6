"""
A client for which a key of another type than is asked for holds nothing, as if it were not there: no page, list or
figure fails because somebody has put something else under one name among many. Writes raise, as ever.
"""

from collections.abc import Callable
from typing import Any

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import ResponseError

_NOTHING: dict[str, Callable[[], Any]] = {  # what each command answers of a key that is not there
    **dict.fromkeys(("GET", "HGET", "ZSCORE", "ZRANK"), lambda: None),
    **dict.fromkeys(("LLEN", "ZCARD", "SCARD", "HLEN", "ZCOUNT", "XLEN", "HEXISTS", "SISMEMBER", "HSTRLEN"), lambda: 0),
    **dict.fromkeys(("LRANGE", "ZRANGE", "ZREVRANGE", "ZRANGEBYSCORE", "SRANDMEMBER", "XRANGE", "XREVRANGE"), list),
    **dict.fromkeys(("SMEMBERS", "SUNION"), set),
    "HKEYS": list,
    "HGETALL": dict,
    "SSCAN": lambda: (0, []),
}
_FIELDS = "fields_asked_for"  # an option of ours


class _Reading:
    def execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] == "HMGET":
            options[_FIELDS] = len(args) - 2
        return super().execute_command(*args, **options)  # type: ignore[misc]

    def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:
        fields = options.pop(_FIELDS, 0)
        try:
            return super().parse_response(connection, command_name, **options)  # type: ignore[misc]
        except ResponseError as error:
            if str(error).startswith("WRONGTYPE"):
                if fields:
                    return [None] * fields
                if command_name in _NOTHING:
                    return _NOTHING[command_name]()
            raise


class ReadingPipeline(_Reading, Pipeline):
    pass


class ReadingClient(_Reading, Redis):
    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        return ReadingPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
