"""Runs a script many times over one connection: the next call is sent before the last one is answered."""

from collections import deque
from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from itertools import islice
from typing import Any

from redis import ConnectionPool, Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from jobs import runtime
from jobs.broker.connections import Script, Word, is_not_primary, packed, run_script
from jobs.broker.pool import AllInUseError

Call = tuple[Sequence[Word], Sequence[Word]]  # the keys and arguments of a script

AHEAD = 2  # calls without an answer
AHEAD_BYTES = 524_288  # of the calls without an answer, unless one alone has more: a slow link must not time out


def run_ahead(client: Redis, script: Script, calls: Iterable[Call], answers: MutableSequence[Any]) -> None:
    """
    Run a script with each of these keys and arguments, in order; append the answers as they arrive. While the server
    runs one call, the next is built and sent. The calls must be repeatable: those without an answer are run again, one
    by one by `run_script`, if the connection is lost, if the server has lost the script or is no longer the primary.

    An error answer is appended as any other; after it no more calls are sent. Raises redis-py's errors of connections
    and its time-outs: whether the calls without an answer have run is then unknown.
    """
    if runtime.stand_in is not None and not isinstance(client, Redis):
        answers.extend(client.run(script, *call) for call in calls)
        return
    calls = iter(calls)
    unanswered: deque[Call] = deque()
    for call in calls:
        unanswered.append(call)
        try:
            _send_ahead(client.connection_pool, script, calls, unanswered, answers)
        except AllInUseError:
            raise
        except (RedisConnectionError, NoScriptError, ReadOnlyError):
            while unanswered:
                answers.append(run_script(client, script, *unanswered[0], is_repeatable=True))
                unanswered.popleft()
        if isinstance(answers[-1], ResponseError):
            return


def _send_ahead(
    pool: ConnectionPool, script: Script, calls: Iterator[Call], unanswered: deque[Call], answers: MutableSequence[Any]
) -> None:
    """Run the call in `unanswered` and those that follow it. An exception leaves there the calls to run again."""
    connection: Any = pool.get_connection()
    sizes: deque[int] = deque()  # of the calls that are sent and unanswered, in bytes

    def receive() -> None:
        answers.append(_answer(connection))
        unanswered.popleft()
        sizes.popleft()

    try:
        while len(sizes) < len(unanswered):
            keys, arguments = unanswered[-1]
            words = packed(connection, ("EVALSHA", script.sha, len(keys), *keys, *arguments))
            size = sum(map(len, words))
            while sizes and (len(sizes) == AHEAD or sum(sizes) + size > AHEAD_BYTES):
                receive()
            if answers and isinstance(answers[-1], ResponseError):
                unanswered.pop()
                break
            sizes.append(size)
            connection.send_packed_command(words, check_health=False)
            unanswered.extend(islice(calls, 1))
        while unanswered:
            receive()
    except BaseException:
        connection.disconnect()  # answers are under way
        raise
    finally:
        pool.release(connection)


def _answer(connection: Any) -> Any:
    """Return the next answer, an error too; raises those after which the call is run again."""
    try:
        return connection.read_response(disable_decoding=True)
    except NoScriptError:
        raise
    except ResponseError as error:
        if is_not_primary(error):
            raise ReadOnlyError(str(error)) from error
        return error
