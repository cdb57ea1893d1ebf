"""The benchmarks of least squares measure what they say, at a small size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from primer_search.benchmarks.linear_dynamics import (
    Setting,
    draw_sequences,
    errors_of_model,
    layer_program,
    ridge_errors,
)
from primer_search.benchmarks.solve_accuracy import measure as measure_accuracy
from primer_search.benchmarks.solve_step import PROGRAMS, measure
from primer_search.primitives.causality.causality_proof import prove_causal

SETTING = Setting(components=3, length=10, noise=0.05, batch=16, steps=60, seeds=2, rate=0.02, held_out=64)


def test_states_are_rotated_by_a_matrix_of_their_own_sequence(rng: np.random.Generator) -> None:
    states = draw_sequences(Setting(components=3, length=20, noise=0.0), 4, rng).astype(np.float64)
    np.testing.assert_allclose(
        np.linalg.norm(states, axis=-1), np.linalg.norm(states[:, :1], axis=-1) * np.ones(22), rtol=1e-4
    )
    matrices = [np.linalg.lstsq(one[:-1], one[1:], rcond=None)[0] for one in states]
    assert np.abs(matrices[0] - matrices[1]).max() > 0.1
    for one, matrix in zip(states, matrices, strict=True):
        np.testing.assert_allclose(one[:-1] @ matrix, one[1:], atol=1e-4)


def test_ridge_regression_reaches_the_noise_once_it_has_seen_enough_pairs(rng: np.random.Generator) -> None:
    setting = Setting(components=3, length=40, noise=0.1)
    errors = ridge_errors(setting, draw_sequences(setting, 400, rng))
    assert errors[0] > 20 * setting.noise**2
    assert setting.noise**2 < errors[-1] < 1.3 * setting.noise**2


def test_training_learns_and_layers_are_causal() -> None:
    for kind in ("mesa", "linear", "softmax"):
        prove_causal(layer_program(kind, SETTING).graph)
    untrained = errors_of_model("mesa", 1, replace(SETTING, steps=1))[1]
    trained = errors_of_model("mesa", 1, SETTING)[1]
    assert trained.shape == (SETTING.seeds, SETTING.length)
    assert trained.mean() < untrained.mean()


def test_each_program_gets_a_step_time() -> None:
    rows = measure(length=8, batch=1, unit=2, rounds=2, least_seconds=0.001, steps=3)
    assert [row["program"] for row in rows] == list(PROGRAMS)
    assert all(row["milliseconds"] > 0 for row in rows) and rows[0]["ratio"]["median"] == 1


def test_longer_keys_need_more_steps_of_conjugate_gradients() -> None:
    unit, long = (measure_accuracy(keys, 8, seed=0) for keys in ("unit", "long"))
    assert 1 < unit["median_steps"] <= unit["most_steps"] < long["most_steps"] <= 16
    assert all(0 < row[key] < 1e-4 for row in (unit, long) for key in ("output_error", "gradient_error"))
