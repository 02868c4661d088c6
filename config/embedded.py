"""The embedded Valkey, under the names that the settings, the commands and the tests of the product import."""

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
