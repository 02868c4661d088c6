"""The last step of loading a web process, before its first request."""

import gc

from django.urls import get_resolver


def settle() -> None:
    """Import the views, and freeze all loaded objects for the garbage collector."""
    get_resolver().check()  # imports the views
    # Loaded objects stay for the life of the process. Without the freeze, a collection of them delayed a page by some
    # 45 ms now and then.
    gc.collect()
    gc.freeze()
