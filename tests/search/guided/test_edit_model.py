"""The model of edits: a textbook Gaussian process, sums for merges, shrinkage of luck, and the prior elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primer_search.search.guided.edit_model import EditModel, Edits, Observation

EFFECT, INTERACTION = 0.05, 0.02

PROGRAMS = st.frozensets(st.integers(1, 6), max_size=4)
OBSERVATIONS = st.lists(
    st.builds(Observation, PROGRAMS, st.floats(-0.3, 0.3), st.floats(1e-4, 1e-2)), min_size=1, max_size=12
)


def kernel(one: Edits, other: Edits) -> float:
    return EFFECT**2 * len(one & other) + INTERACTION**2 * (one == other and len(one) > 0)


def textbook(observations: list[Observation], program: Edits) -> tuple[float, float]:
    """Rasmussen & Williams 2006, equations 2.25 and 2.26, with one row for each observation."""
    rows = [each.edits for each in observations]
    noise = np.diag([each.variance for each in observations])
    inverse = np.linalg.inv(np.array([[kernel(a, b) for b in rows] for a in rows]) + noise)
    shared = np.array([kernel(program, each) for each in rows])
    mean = shared @ inverse @ [each.fitness for each in observations]
    return float(mean), math.sqrt(max(kernel(program, program) - shared @ inverse @ shared, 0.0))


@settings(max_examples=60)
@given(OBSERVATIONS, PROGRAMS)
def test_posteriors_are_those_of_the_textbook(observations: list[Observation], program: Edits) -> None:
    model = EditModel(observations, EFFECT, INTERACTION)
    for edits in [program, *(each.edits for each in observations)]:
        [posterior] = model.posteriors([edits])
        mean, sd = textbook(observations, edits)
        assert posterior.mean == pytest.approx(mean, abs=1e-6)
        assert posterior.sd == pytest.approx(sd, abs=1e-4)


@settings(max_examples=40)
@given(OBSERVATIONS, PROGRAMS)
def test_a_program_that_is_not_trained_is_predicted_by_the_sum_of_its_effects(
    observations: list[Observation], program: Edits
) -> None:
    untrained = [each for each in observations if each.edits != program]
    model = EditModel(untrained, EFFECT, INTERACTION)
    effects = model.effects()
    expected = sum(effects.get(edit, 0.0) for edit in program)
    assert model.posteriors([program])[0].mean == pytest.approx(expected, abs=1e-9)


def test_a_merge_of_two_certain_gains_is_predicted_to_have_both() -> None:
    certain = [Observation(frozenset({1}), -0.1, 1e-8), Observation(frozenset({2}), -0.06, 1e-8)]
    [merge] = EditModel(certain, EFFECT, 1e-4).posteriors([frozenset({1, 2})])
    assert merge.mean == pytest.approx(-0.16, abs=1e-4)
    assert merge.sd < 0.001


def test_a_lucky_training_is_shrunk_by_its_own_noise() -> None:
    """With the same variance of program and noise, half of a deviation is luck."""
    variance = EFFECT**2 + INTERACTION**2
    [posterior] = EditModel([Observation(frozenset({1}), -0.2, variance)], EFFECT, INTERACTION).posteriors(
        [frozenset({1})]
    )
    assert posterior.mean == pytest.approx(-0.1)


def test_a_lucky_training_is_shrunk_further_by_bad_relatives() -> None:
    lucky = Observation(frozenset({1}), -0.1, 0.02**2)
    relatives = [Observation(frozenset({1, edit}), 0.05, 0.02**2) for edit in range(2, 8)]
    alone, related = (
        EditModel(observations, EFFECT, INTERACTION).posteriors([lucky.edits])[0].mean
        for observations in ([lucky], [lucky, *relatives])
    )
    assert related > alone + 0.02


@given(st.lists(st.floats(-0.3, 0.3), min_size=1, max_size=6))
def test_repeated_trainings_count_as_their_mean(fitness: list[float]) -> None:
    program = frozenset({1, 2})
    repeated = EditModel([Observation(program, each, 0.001) for each in fitness], EFFECT, INTERACTION)
    mean = Observation(program, float(np.mean(fitness)), 0.001 / len(fitness))
    [one], [other] = (model.posteriors([program]) for model in (repeated, EditModel([mean], EFFECT, INTERACTION)))
    assert one.mean == pytest.approx(other.mean, abs=1e-9)
    assert one.sd == pytest.approx(other.sd, abs=1e-9)


@pytest.mark.parametrize("observations", [[], [Observation(frozenset({1}), -0.2, 1e-4)]])
def test_unknown_edits_keep_the_prior(observations: list[Observation]) -> None:
    model = EditModel(observations, EFFECT, INTERACTION)
    [baseline, one, two] = model.posteriors([frozenset(), frozenset({8}), frozenset({8, 9})])
    assert (baseline.mean, baseline.sd) == (0.0, 0.0)
    assert (one.mean, two.mean) == (0.0, 0.0)
    assert one.sd == pytest.approx(math.hypot(EFFECT, INTERACTION))
    assert two.sd == pytest.approx(math.sqrt(2 * EFFECT**2 + INTERACTION**2))
