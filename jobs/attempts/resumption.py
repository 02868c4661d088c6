"""
What an attempt with steps counts when it ends before its job does: a resumption, if it has come further; and then the
job does not fail at the same place again and again, so the count of its failures begins anew.
"""

from dataclasses import replace
from typing import Any

from jobs.attempts.claim import Claim
from jobs.retries import Progress


def has_advanced(claim: Claim) -> bool:
    """Whether the attempt has made progress in its steps."""
    return claim.checkpoints is not None and claim.checkpoints.has_advanced


def refused(claim: Claim, command: Any) -> str:
    """Count a resumption. Returns why it is refused, if `resume_limit` allows no more of them; else ""."""
    assert claim.checkpoints is not None  # noqa: S101
    state, limit = claim.checkpoints.state, command.resume_limit
    if limit is not None and state.resumed >= limit:
        return f"resumed more than its {limit} times"
    state.resumed += 1
    return ""


def refused_after_error(claim: Claim, command: Any) -> str:
    """`refused`, for an attempt that has failed: it is a resumption if it has made progress."""
    return refused(claim, command) if has_advanced(claim) else ""


def afresh(progress: Progress, claim: Claim) -> Progress:
    """Return the progress with which a failure is judged."""
    return replace(progress, failures={}) if has_advanced(claim) else progress


def place(claim: Claim) -> str:
    """Return where the attempt has left off, for people."""
    current = claim.checkpoints.state.current if claim.checkpoints is not None else None
    return f", at the step {current.name!r}" if current is not None else ""
