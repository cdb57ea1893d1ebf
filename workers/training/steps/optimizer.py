"""Optimizer and learning-rate schedule of every training, as configured in `OptimizerConfig`."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import jax
import numpy as np
import optax

from ...config import OptimizerConfig

__all__ = ["initial_state", "learning_rate", "make_optimizer"]


@lru_cache(maxsize=64)
def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Return AdamW or Adafactor (Shazeer & Stern 2018), with gradient clipping and the learning-rate schedule.

    Equal configurations return the same object, so that models with the same optimizer share compiled functions.
    """
    schedule = learning_rate(config)
    clip = optax.clip_by_global_norm(config.gradient_clip) if config.gradient_clip else optax.identity()
    if config.name == "adamw":
        return optax.chain(clip, optax.adamw(schedule, weight_decay=config.weight_decay))
    return optax.chain(clip, optax.adafactor(schedule, multiply_by_parameter_scale=False))


def learning_rate(config: OptimizerConfig) -> Callable[[jax.typing.ArrayLike], jax.Array]:
    """Return the schedule: linear warm-up, then constant or proportional to 1/sqrt(step) (the paper's)."""
    warmup = config.warmup_steps

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        count = jax.numpy.asarray(step, jax.numpy.float32) + 1
        after = jax.lax.rsqrt(jax.numpy.maximum(count, warmup) / warmup) if config.schedule == "rsqrt" else 1.0
        return config.learning_rate * jax.numpy.minimum(count / warmup, 1.0) * after

    return schedule


def initial_state(optimizer: optax.GradientTransformation, parameters: optax.Params) -> optax.OptState:
    """Return the optimizer's first state without compiling anything: all its statistics start at zero (tested)."""
    shapes = jax.eval_shape(optimizer.init, parameters)
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
