"""The cursors of lists: how many jobs of each queue come before a page."""

from base64 import b64decode, urlsafe_b64encode

import orjson

MOST_PASSED = 10**12  # the largest offset in a cursor: Redis takes no more than 64 bits


def write(offsets: dict[str, int]) -> str:
    """Return the cursor of these offsets by queue."""
    return urlsafe_b64encode(orjson.dumps(offsets)).decode().rstrip("=")


def read(cursor: str) -> dict[str, int]:
    """Return the offsets of a cursor; none for an empty one. Raises ValueError for what is no cursor."""
    if not cursor:
        return {}
    try:
        offsets = orjson.loads(b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        if not isinstance(offsets, dict) or not all(
            type(each) is int and 0 <= each <= MOST_PASSED for each in offsets.values()
        ):
            raise ValueError
    except ValueError:
        raise ValueError(f"Invalid cursor of a list of jobs: {cursor[:50]!r}.") from None
    return offsets
