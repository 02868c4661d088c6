"""
Profiles one call in its own thread, with pyinstrument, and draws its flame graph and its summary.

Only profiled attempts import this module. MissingExtraError without the extra `profile`.
"""

import sys
import zlib
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from jobs.errors import MissingExtraError
from jobs.safe_logging import safe_logger

try:
    from pyinstrument import Profiler as PyinstrumentProfiler
    from pyinstrument.processors import remove_irrelevant_nodes
    from pyinstrument.renderers import ConsoleRenderer, HTMLRenderer
    from pyinstrument.session import Session
except ImportError as error:
    raise MissingExtraError("A profile", "pyinstrument", "profile") from error

logger = safe_logger("jobs")

SAMPLES = 5_000  # of an attempt at most: one a millisecond, less often in a longer one
LARGEST = 256 * 1_024  # bytes of a flame graph, compressed
TEXT_LENGTH = 20_000  # characters of the summary

# Fractions of the total time, tried in this order: a flame graph that is too large leaves out shorter calls.
_CUTS = (0.0, 0.001, 0.01, 0.05)


class Profiler(PyinstrumentProfiler):
    """Keeps fewer than SAMPLES samples: at SAMPLES it drops every other one, and takes half as many from then on."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title
        self._one_in, self._passed, self._unheard = 1, 0, 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Profile the block, in its thread. Errors of the profiler are only logged."""
        try:
            self.start(target_description=self._title)
        except Exception:  # another profiler runs in this thread
            logger.warning("an attempt could not be profiled", exc_info=True)
        try:
            yield
        finally:
            if self.is_running:
                try:
                    self.stop()
                except Exception:
                    logger.warning("a profile could not be ended", exc_info=True)

    async def awaiting(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Await `call`, and profile it in its loop's thread."""
        with self.watching():
            return await call

    def _sampler_saw_call_stack(self, call_stack: list[str], time_since_last_sample: float, async_state: Any) -> None:
        self._passed += 1
        self._unheard += time_since_last_sample
        if self._passed % self._one_in or self._active_session is None:
            return
        # Each sample brings new strings for the names of its frames.
        stack, spent, self._unheard = [sys.intern(frame) for frame in call_stack], self._unheard, 0.0
        super()._sampler_saw_call_stack(stack, spent, async_state)
        records = self._active_session.frame_records
        if len(records) >= SAMPLES:
            self._one_in *= 2
            records[:] = [
                (stack, before + spent)
                for (_, before), (stack, spent) in zip(records[::2], records[1::2], strict=False)
            ]


def flame_graph(session: Session) -> tuple[bytes, str]:
    """Return the compressed page, empty if it cannot be drawn, and a sentence about what was left out."""
    for part in _CUTS:
        renderer = HTMLRenderer()
        if part:
            renderer.preprocessors = [remove_irrelevant_nodes]
            renderer.preprocessor_options = {"filter_threshold": part}
        try:
            graph = zlib.compress(renderer.render(session).encode(errors="replace"))
        except RecursionError:
            return b"", "Its calls are nested too deeply for a flame graph."
        if len(graph) <= LARGEST:
            return graph, f"Calls that took less than {part:.1%} of the time were left out." if part else ""
    return b"", "Its flame graph was too large, and left out."


class _Summary(ConsoleRenderer):
    def render_preamble(self, session: Session) -> str:
        return ""  # the page shows the same facts already


def summary(session: Session) -> str:
    """Return the profile as text, shortened."""
    text = _Summary(unicode=True, color=False).render(session).strip()
    return text if len(text) <= TEXT_LENGTH else f"{text[:TEXT_LENGTH]}\n... ({len(text):,} characters)"
