"""
What names may be. They are parts of keys, members, messages, labels and addresses, so each is checked where it enters:
the name of a worker by `rqworker`, those of queues by `manage.py check`.
"""

import re

LONGEST = 100  # characters of a name

_WORKER = re.compile(r"[A-Za-z0-9._@+-]+")
_QUEUE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff,|]+")


def check_worker(name: str) -> str:
    """The name of a worker, if it can be one. ValueError naming it and what is wrong otherwise."""
    if len(name) <= LONGEST and _WORKER.fullmatch(name):
        return name
    raise ValueError(
        f"{name!r} cannot be a worker's name: it must be 1 to {LONGEST} letters, digits, and . _ - @ + of ASCII."
    )


def check_queue(name: object) -> str:
    """The name of a queue, if it can be one. ValueError naming it and what is wrong otherwise."""
    if isinstance(name, str) and len(name) <= LONGEST and _QUEUE.fullmatch(name):
        return name
    raise ValueError(
        f"{name!r} cannot be a queue's name: it must be 1 to {LONGEST} characters, none of them a comma, a | or a "
        "control character."
    )


def as_worker(text: str) -> str:
    """A name for a worker made of any text, such as a host's name."""
    return re.sub(r"[^A-Za-z0-9._@+-]", "-", text)[:LONGEST] or "worker"
