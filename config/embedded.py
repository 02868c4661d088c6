"""Where the embedded Valkey lay before `jobs.broker.embedded`: scripts beside the project import it from here."""

from jobs.broker.embedded import (
    LONGEST_SOCKET_PATH,
    EmbeddedServerError,
    EmbeddedValkey,
    dismiss,
    make_private,
    socket_path,
    stop_with_us,
    url,
)

__all__ = [
    "LONGEST_SOCKET_PATH",
    "EmbeddedServerError",
    "EmbeddedValkey",
    "dismiss",
    "make_private",
    "socket_path",
    "stop_with_us",
    "url",
]
