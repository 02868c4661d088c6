"""
The folders of the code under check, each locked as long as its check runs.

A killed check releases the lock and leaves its folder; the next check by the same user removes unlocked folders.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PREFIX = "jiki-submission-"


@contextmanager
def own_folder() -> Iterator[Path]:
    """Create a folder, and remove it afterwards. First remove folders left by killed checks."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError), _lock(left):
            shutil.rmtree(left, ignore_errors=True)
    with ExitStack() as until_the_end:
        folder = None
        while folder is None:
            new = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
            with suppress(BlockingIOError, FileNotFoundError):  # another check took the new folder for a left one
                until_the_end.enter_context(_lock(new))
                folder = new
        until_the_end.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Lock the folder. OSError if it is locked, is gone, or belongs to another user: /tmp is shared."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(opened)
        if status.st_uid != os.geteuid():
            raise PermissionError(f"{folder} belongs to another user.")
        if not os.path.samestat(status, folder.lstat()):
            raise FileNotFoundError(f"{folder} was replaced.")
        yield
    finally:
        os.close(opened)
