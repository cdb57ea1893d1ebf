"""The probes of batches with prefixes and several texts: honest steps pass, steps that see too much do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

from primer_search.models.config import ModelConfig
from primer_search.models.language_model import language_model
from primer_search.models.training_batch import TrainingBatch
from primer_search.primitives import build_graph
from primer_search.primitives.programs.library import get
from primer_search.workers.training.steps.batch_model import BatchModel, causal_like
from primer_search.workers.training.steps.train_state import StepResult, TrainState
from primer_search.workers.training.trial_probes import BatchFault, CausalityFault, probe_trained_batch

MODEL = ModelConfig(layers=2, unit=2, heads=2, length=11, vocabulary=300)


class HonestSteps:
    """Steps that only look at the batch that `change` makes of the given one."""

    def __init__(self, change: Callable[[TrainingBatch], TrainingBatch] = lambda batch: batch):
        self.model = language_model(build_graph(get("PRIMER_EZ", MODEL.unit, MODEL.heads)), MODEL)
        self._forward = jax.jit(BatchModel(self.model).losses_and_probe_logits)
        self._change = change

    def step(self, state: TrainState, batch: TrainingBatch) -> tuple[TrainState, StepResult]:
        losses, logits = self._forward(state.parameters, self._change(batch))
        return state, StepResult(losses, np.float32(0.0), logits)  # type: ignore[arg-type]


def probed(batch: TrainingBatch, change: Callable[[TrainingBatch], TrainingBatch] = lambda batch: batch) -> float:
    steps = HonestSteps(change)
    state = TrainState(steps.model.draw(np.random.default_rng(0)), None)
    return probe_trained_batch(steps, MODEL, state, batch, np.random.default_rng(1))


@pytest.fixture
def batch(rng: np.random.Generator) -> TrainingBatch:
    """Two sequences of two texts, each with a prefix."""
    places = np.arange(12)[None]
    segment_ids = np.where(places < np.array([[5], [7]]), 0, 1).astype(np.int32)
    prefix = (places < 3) | ((places >= np.array([[5], [7]])) & (places < np.array([[8], [9]])))
    return TrainingBatch(rng.integers(0, 300, (2, 12)).astype(np.int32), None, segment_ids, prefix)


def longer_prefix(batch: TrainingBatch) -> TrainingBatch:
    prefix: Any = np.asarray(batch.prefix)
    return replace(batch, prefix=prefix | np.roll(prefix, 1, axis=1))


def test_an_honest_model_passes(batch: TrainingBatch) -> None:
    assert probed(batch) < 1e-4


def test_a_model_that_sees_its_targets_does_not(batch: TrainingBatch) -> None:
    with pytest.raises(CausalityFault, match="sees its targets"):
        probed(batch, longer_prefix)


def test_a_model_that_sees_other_texts_does_not(batch: TrainingBatch) -> None:
    with pytest.raises(BatchFault, match="other texts"):
        probed(batch, lambda batch: replace(batch, segment_ids=np.zeros((2, 12), np.int32)))


def test_token_windows_become_causal_batches_of_the_same_arrays(batch: TrainingBatch) -> None:
    tokens = np.asarray(batch.tokens)
    alike = causal_like(replace(batch, weights=np.ones((2, 11), np.float32)), tokens)
    assert jax.tree.structure(alike) == jax.tree.structure(replace(batch, weights=np.ones((2, 11), np.float32)))
    steps = HonestSteps()
    parameters = steps.model.draw(np.random.default_rng(0))
    losses = jax.jit(BatchModel(steps.model).token_losses)(parameters, jax.tree.map(jax.numpy.asarray, alike))
    expected = jax.jit(steps.model.token_losses)(parameters, jax.numpy.asarray(tokens))
    np.testing.assert_allclose(losses, expected, atol=1e-5)
