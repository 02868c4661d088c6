"""
Who is measured beside whom.

A busy or throttled machine changes from minute to minute, and two figures of one pair, measured one right after the
other, change together. So it is their ratio that is told, the median of all pairs with the lowest and the highest.
"""

from collections.abc import Sequence

from benchmarks.systems import System

RIVAL = "sidekiq-yjit"  # with which our other ways of running are compared, if it takes part


def turns(systems: Sequence[System], load: str) -> list[tuple[System, ...]]:
    """
    The pairs of one round of a load, each the system that is compared and the one that it is compared with.

    Each peer has the first of ours beside it, a base the one of ours that runs in the same way. What of ours then has
    nobody has the rival, or the first of ours. Where only one system takes part, it is alone.
    """
    taking = [system for system in systems if load in system.loads]
    if len(taking) < 2:
        return [(system,) for system in taking]
    ours = [system for system in taking if system.is_ours]
    us = (ours or taking)[0]
    others = [system for system in taking if system not in ours and system is not us]
    pairs = [(_same_way(ours, other) or us, other) for other in others]
    rival = next((other for other in others if other.name == RIVAL), us)
    alone = [system for system in ours if system not in [first for first, _ in pairs]]
    return [*pairs, *((system, rival) for system in alone if system is not rival)]


def _same_way(ours: Sequence[System], other: System) -> System | None:
    return next((way for way in ours if way.module == other.module and way.options == other.options), None)
