"""The optimizer: its first state without compiling, its schedule, its clip."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

from primer_search.workers.config import OptimizerConfig
from primer_search.workers.training.steps.optimizer import initial_state, learning_rate, make_optimizer

ADAMW = OptimizerConfig(name="adamw", learning_rate=0.1, warmup_steps=4, gradient_clip=0.0)
ADAFACTOR = replace(ADAMW, name="adafactor")


def parameters(rng: np.random.Generator) -> dict[str, np.ndarray]:
    # Adafactor factors matrices from 128 on: one that it factors, one that it does not, a vector.
    shapes = {"large": (128, 130), "small": (3, 5), "vector": (7,)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("config", [ADAMW, ADAFACTOR, replace(ADAMW, gradient_clip=1.0, weight_decay=0.1)])
def test_the_initial_state_equals_that_of_the_optimizer(config: OptimizerConfig, rng: np.random.Generator) -> None:
    optimizer, start = make_optimizer(config), parameters(rng)
    ours, theirs = initial_state(optimizer, start), optimizer.init(start)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    assert jax.tree.leaves(theirs)
    for our, their in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert our.dtype == their.dtype
        np.testing.assert_array_equal(our, their)


def test_the_learning_rate_warms_up_linearly_and_stays() -> None:
    schedule = learning_rate(ADAMW)
    np.testing.assert_allclose(
        [float(schedule(step)) for step in (0, 1, 3, 4, 1000)], [0.025, 0.05, 0.1, 0.1, 0.1], rtol=1e-6
    )


def test_the_learning_rate_falls_with_the_square_root_of_the_step() -> None:
    schedule = learning_rate(replace(ADAMW, schedule="rsqrt"))
    # Counted from 1: the peak at step 4 of 4, half of it four times as far, a tenth a hundred times as far.
    np.testing.assert_allclose([float(schedule(step)) for step in (0, 3, 15, 399)], [0.025, 0.1, 0.05, 0.01], rtol=1e-6)


def test_the_first_learning_rate_is_not_zero() -> None:
    assert float(learning_rate(replace(ADAMW, warmup_steps=10_000))(0)) > 0


def test_the_first_step_of_adamw_has_the_size_of_the_learning_rate(rng: np.random.Generator) -> None:
    start = parameters(rng)
    optimizer = make_optimizer(ADAMW)
    gradients = jax.tree.map(np.sign, start)
    updates, _ = optimizer.update(gradients, initial_state(optimizer, start), start)
    for update, gradient in zip(jax.tree.leaves(updates), jax.tree.leaves(gradients), strict=True):
        np.testing.assert_allclose(update, -0.025 * gradient, rtol=1e-4)


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_a_huge_gradient_is_clipped_before_it_enters_the_optimizer_state(name: str, rng: np.random.Generator) -> None:
    start = parameters(rng)
    gradients = jax.tree.map(lambda array: 1e4 * array, start)
    norm = np.sqrt(sum(float(np.sum(np.square(leaf))) for leaf in jax.tree.leaves(gradients)))

    def state_after(clip: float, gradients: dict[str, np.ndarray]) -> list[np.ndarray]:
        optimizer = make_optimizer(replace(ADAMW, name=name, gradient_clip=clip))
        return jax.tree.leaves(optimizer.update(gradients, initial_state(optimizer, start), start)[1])

    clipped = state_after(1.0, gradients)
    rescaled = state_after(0.0, jax.tree.map(lambda array: array / norm, gradients))
    unclipped = state_after(0.0, gradients)
    for one, other in zip(clipped, rescaled, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-12)
    assert any(not np.allclose(one, other, rtol=1e-2) for one, other in zip(clipped, unclipped, strict=True))


def test_weight_decay_shrinks_parameters_that_get_no_gradient(rng: np.random.Generator) -> None:
    start = parameters(rng)
    optimizer = make_optimizer(replace(ADAMW, weight_decay=0.5))
    nothing = jax.tree.map(np.zeros_like, start)
    updates: Any = optimizer.update(nothing, initial_state(optimizer, start), start)[0]
    np.testing.assert_allclose(updates["small"], -0.025 * 0.5 * start["small"], rtol=1e-5)
