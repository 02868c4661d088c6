"""
How many outcomes go into one step: as many as fit into a parcel, by their bytes. After a failure fewer, until the one
is found that the server does not take, and that would keep all the others from being written.
"""

from base64 import b64encode
from collections.abc import Callable, Sequence

import orjson

from jobs.worker.commit import Handed

ROOM = 1_048_576  # bytes of outcomes in a step, if there is more than one
LARGE = 65_536  # bytes of an outcome; only what is larger can be too large for a server
TRIES = 3  # failures of one large outcome alone, on a server that answers


class Parcels:
    """Those of one worker. `fill` before each step, `arrived` or `failed` after it."""

    def __init__(self) -> None:
        self._most: int | None = None  # outcomes in one; None: as many as there is room for
        self._alone = (b"", 0)  # the execution of a large outcome that failed alone, and how often
        self._sent = 0

    def fill(self, waiting: Sequence[Handed]) -> list[Handed]:
        """What to send now: the first of those that wait."""
        size = number = 0
        for handed in waiting:
            size += handed.size
            if number and (size > ROOM or number == self._most):
                break
            number += 1
        self._sent = number
        return list(waiting[:number])

    def arrived(self) -> None:
        """The server has taken it."""
        self._most = None

    def failed(self, waiting: list[Handed], server_answers: Callable[[], bool]) -> str:
        """
        It was not taken: send less the next time. One that fails alone, time and again, on a server that answers loses
        what makes it large, in `waiting`. Returns the id of its job then.
        """
        self._most = max(1, self._sent // 2)
        if self._sent != 1 or waiting[0].size <= LARGE or not server_answers():
            return ""
        execution, tries = self._alone
        tries = tries + 1 if execution == waiting[0].claim.execution else 1
        self._alone = (waiting[0].claim.execution, tries)
        if tries < TRIES:
            return ""
        waiting[0] = _without_contents(waiting[0])
        return waiting[0].claim.job_id


def _without_contents(handed: Handed) -> Handed:
    encoded, note = handed.encoded, f"<{handed.size:,} bytes, which the server did not take>"
    words = list(encoded.fields)
    for at in range(1, len(words), 2):
        word = words[at]
        if isinstance(word, str) and len(word) > LARGE:
            words[at] = note
    is_value = encoded.result_type == "1" and len(encoded.result) > LARGE
    result = b64encode(orjson.dumps(note)).decode() if is_value else encoded.result
    return Handed(handed.claim, encoded._replace(fields=tuple(words), result=result))
