"""The plan's number of candidates, against searches that ran."""

from __future__ import annotations

from dataclasses import replace

import pytest

from primer_search.configs.expected_candidates import MEASURED_STOPS, TrainingShares, expected_candidates
from primer_search.configs.load import load
from primer_search.search.evolution.hurdles import mean_cost
from primer_search.search.guided.stop_rule import POINTS, STOPS

LAPTOP = load("laptop")
PAPER = replace(
    LAPTOP,
    trial=replace(LAPTOP.trial, unit="reference_seconds", price=False),
    search=replace(LAPTOP.search, strategy="evolution"),
)


@pytest.mark.parametrize(
    ("workers", "minutes", "candidates"),
    [(2, 7.8, 115), (2, 7.8, 132), (2, 7.8, 111)],
    ids=["seed 0", "seed 1", "seed 2"],
)
def test_the_ten_minute_searches_of_the_docs_evaluated_about_as_many_candidates(
    workers: int, minutes: float, candidates: int
) -> None:
    expected = expected_candidates(LAPTOP, "cpu", workers, 60 * minutes)
    assert expected is not None and candidates / 1.3 < expected < 1.3 * candidates


def test_the_measured_stops_are_those_of_a_guided_search() -> None:
    assert sorted(MEASURED_STOPS) == [POINTS[place] for place in STOPS]


def test_a_guided_search_expects_its_own_shares_and_the_paper_those_of_its_hurdles() -> None:
    guided, paper = TrainingShares.of(LAPTOP), TrainingShares.of(PAPER)
    assert guided.first == pytest.approx(0.59, abs=0.01) and "docs/discovery.md" in guided.basis
    assert guided.further == pytest.approx(1 / 25 + 29 / 360)
    assert paper.first == mean_cost(PAPER.trial.budget, PAPER.trial.hurdles) / PAPER.trial.budget
    assert paper.further == 1 / 25 and "half of those that reach a hurdle" in paper.basis


def test_a_long_guided_search_is_slowed_by_its_model_of_edits_and_the_paper_is_not() -> None:
    hour, day, week = (expected_candidates(LAPTOP, "cpu", 2, 3600 * hours) or 0 for hours in (1, 24, 168))
    assert 13 * hour < day < 24 * hour and 1.5 * day < week < 4 * day
    hour, week = (expected_candidates(PAPER, "cpu", 2, 3600 * hours) or 0 for hours in (1, 168))
    assert week > 168 * hour


def test_without_hurdles_nothing_stops_and_no_share_is_named() -> None:
    shares = TrainingShares.of(replace(PAPER, trial=replace(PAPER.trial, hurdles=0)))
    assert (shares.first, shares.basis) == (1.0, "")


def test_no_time_is_known_for_steps_on_an_accelerator() -> None:
    assert expected_candidates(LAPTOP, "gpu", 1, 3600) is None
