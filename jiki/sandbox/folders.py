"""
The folders in which code lies while it is checked, each locked for as long as its check lives.

Who is killed lets go of the lock and leaves the folder; the next check of that user removes what nobody holds.
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
    """A new folder, which is gone afterwards. Those that killed checks have left go first."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError), _lock(left):
            shutil.rmtree(left, ignore_errors=True)
    with ExitStack() as until_the_end:
        folder = None
        while folder is None:
            new = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
            with suppress(BlockingIOError, FileNotFoundError):  # another check was faster, and took it for left
                until_the_end.enter_context(_lock(new))
                folder = new
        until_the_end.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold it. OSError if somebody else does, if it is gone, or if it is no folder of ours: /tmp is everybody's."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = os.fstat(opened)
        if found.st_uid != os.geteuid():
            raise PermissionError(f"{folder} is somebody else's.")
        if not os.path.samestat(found, folder.lstat()):
            raise FileNotFoundError(f"{folder} is another one by now.")
        yield
    finally:
        os.close(opened)
