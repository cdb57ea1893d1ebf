"""The flat view of a model computes what the model computes."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest

from primer_search.models.config import ModelConfig
from primer_search.models.language_model import language_model
from primer_search.primitives import build_graph
from primer_search.primitives.programs import library
from primer_search.workers.config import OptimizerConfig
from primer_search.workers.training.steps.brief import MOST_FLAT
from primer_search.workers.training.steps.flat_model import FlatModel, training_model
from primer_search.workers.training.steps.optimizer import make_optimizer
from primer_search.workers.training.steps.train_step import StepFunctions

CONFIG = ModelConfig(layers=2, unit=1, length=16, vocabulary=300)
MODEL = language_model(build_graph(library.get("PRIMER_EZ", 1)), CONFIG)


def test_unflatten_inverts_init_and_draw() -> None:
    flat = FlatModel(MODEL)
    for ours, theirs in ((flat.init, MODEL.init), (flat.draw, MODEL.draw)):
        arrays, expected = flat.unflatten(ours(np.random.default_rng(3))), theirs(np.random.default_rng(3))
        assert jax.tree.structure(arrays) == jax.tree.structure(expected)
        jax.tree.map(np.testing.assert_array_equal, arrays, expected)


@pytest.mark.parametrize("averaging", [0.0, 8.0])
def test_training_the_flat_view_gives_the_same_losses_and_parameters(averaging: float) -> None:
    tokens = np.random.default_rng(0).integers(0, 300, (5, 4, 17)).astype(np.int32)
    optimizer, flat = make_optimizer(OptimizerConfig()), FlatModel(MODEL)
    results = []
    for model in (MODEL, flat):
        functions = StepFunctions(model, optimizer, 4, averaging)
        state = functions.initial_state(model.init(np.random.default_rng(1)))
        functions.compile_step(state)
        functions.compile_evaluation(state)
        state, losses = functions.place(state), []
        for batch in tokens:
            state, result = functions.step(state, batch)
            losses.append(np.asarray(result.token_losses))
        results.append((losses, functions.evaluate(state, tokens), jax.device_get(state.evaluated)))
    (losses, evaluated, parameters), (flat_losses, flat_evaluated, vector) = results
    np.testing.assert_allclose(flat_losses, losses, rtol=1e-5)
    assert flat_evaluated == pytest.approx(evaluated, rel=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), flat.unflatten(vector), parameters)


def test_adafactor_and_large_models_keep_the_arrays() -> None:
    assert isinstance(training_model(MODEL, OptimizerConfig()), FlatModel)
    assert training_model(MODEL, OptimizerConfig(name="adafactor")) is MODEL
    large = replace(MODEL, config=replace(CONFIG, vocabulary=MOST_FLAT // CONFIG.width))  # the embedding alone
    assert training_model(large, OptimizerConfig()) is large
