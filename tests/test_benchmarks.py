"""How the benchmarks compare: who is measured beside whom, and what a ratio is taken of."""

import os
import subprocess
import sys
from collections import Counter

import pytest

from benchmarks import systems, work
from benchmarks.bench import JOBS_PER_SECOND, Sample
from benchmarks.loads import LOADS
from benchmarks.pairs import turns
from benchmarks.processes import ROOT
from benchmarks.results import Results
from benchmarks.systems import BASES, DRAIN, SYSTEMS, System


def names(*chosen: str, load: str = DRAIN, bases: bool = False) -> list[tuple[str, ...]]:
    found: list[System] = systems.chosen(chosen)
    return [
        tuple(system.name for system in turn) for turn in turns(systems.with_bases(found) if bases else found, load)
    ]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        pytest.param(
            ["ours", "huey", "dramatiq"], [("ours", "huey"), ("ours", "dramatiq")], id="each peer beside ours"
        ),
        pytest.param(
            ["ours*", "sidekiq-yjit", "huey"],
            [
                ("ours", "sidekiq-yjit"),
                ("ours", "huey"),
                ("ours-kept", "sidekiq-yjit"),
                ("ours-fair", "sidekiq-yjit"),
                ("ours-fair-kept", "sidekiq-yjit"),
            ],
            id="our other ways beside the rival",
        ),
        pytest.param(["ours", "ours-kept"], [("ours-kept", "ours")], id="or beside ours"),
        pytest.param(["huey", "dramatiq"], [("huey", "dramatiq")], id="peers among themselves"),
        pytest.param(["ours"], [("ours",)], id="one alone"),
    ],
)
def test_each_peer_is_measured_beside_ours(chosen: list[str], expected: list[tuple[str, ...]]) -> None:
    assert names(*chosen) == expected


def test_a_base_is_measured_beside_the_same_way_of_running_ours() -> None:
    found = names("ours", "ours-fair", "huey", bases=True)

    assert found == [("ours", "huey"), ("ours", "base"), ("ours-fair", "base-fair")]


def test_nobody_is_measured_by_a_load_that_it_cannot_do() -> None:
    assert names("ours", "huey", load=systems.BULK) == [("ours",)]
    assert names("huey", load=systems.BULK) == []


def test_the_ratio_is_taken_pair_by_pair_and_over_1_is_better() -> None:
    found = Results()
    for ours, theirs in ((20.0, 10.0), (9.0, 3.0), (4.0, 4.0)):
        mine = [Sample("drain", JOBS_PER_SECOND, ours, 1), Sample("late", "ms", ours, 1)]
        found.compare(
            "ours", mine, "huey", [Sample("drain", JOBS_PER_SECOND, theirs, 1), Sample("late", "ms", theirs, 1)]
        )

    rate, late = found.comparisons()

    assert (rate.median, rate.min, rate.max, rate.pairs) == (2, 1, 3, 3)
    assert (late.median, late.min, late.max) == (1 / 2, 1 / 3, 1)


def test_what_one_of_a_pair_could_not_measure_is_not_compared() -> None:
    found = Results()

    found.compare("ours", [Sample("drain", JOBS_PER_SECOND, 1, 1), Sample("memory", "MB", 80, 1)], "huey", [])

    assert found.comparisons() == []


def test_every_load_and_system_can_be_chosen_by_its_name() -> None:
    assert {load for system in (*SYSTEMS, *BASES) for load in system.loads} == LOADS.keys()
    assert len({system.name for system in (*SYSTEMS, *BASES)}) == len(SYSTEMS) + len(BASES)


@pytest.mark.parametrize("module", ["benchmarks", "benchmarks.pages"])
def test_they_start_on_a_terminal_that_has_no_settings(module: str) -> None:
    env = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    said = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, env=env, capture_output=True, text=True)

    assert (said.returncode, said.stderr) == (0, "")


def test_the_mixture_is_always_the_same() -> None:
    assert Counter(work.mixture(1_000)) == {0: 900, 5: 90, 200: 10}
    assert work.mixture(1_000) == work.mixture(1_000)
