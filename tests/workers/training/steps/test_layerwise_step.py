"""A step that is compiled layer by layer computes what the whole step computes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from primer_search.models.config import ModelConfig
from primer_search.models.language_model import language_model
from primer_search.primitives import build_graph, library
from primer_search.tests.support.exported_programs import small_program
from primer_search.workers.config import OptimizerConfig
from primer_search.workers.training.steps.data_parallel import AXIS
from primer_search.workers.training.steps.flat_model import FlatModel, training_model
from primer_search.workers.training.steps.layerwise_step import LayerwiseFunctions, step_functions
from primer_search.workers.training.steps.optimizer import make_optimizer
from primer_search.workers.training.steps.train_step import StepFunctions, TrainState

CONFIG = ModelConfig(layers=3, unit=1, length=16, vocabulary=300)
OPTIMIZER = OptimizerConfig(weight_decay=0.1)
TOKENS = np.random.default_rng(0).integers(0, 300, (3, 4, 17)).astype(np.int32)


@pytest.mark.parametrize(
    ("program", "layers", "averaging", "rate"),
    [
        ("TRANSFORMER", 3, 8.0, None),
        ("PRIMER_EZ", 2, 0.0, 0.5),
        ("PRIMER", 1, 8.0, None),
        ("TRANSFORMER_MESA", 2, 8.0, None),
    ],
)
def test_steps_and_evaluation_equal_those_of_the_whole_step(
    program: str, layers: int, averaging: float, rate: float | None
) -> None:
    flat = FlatModel(language_model(build_graph(library.get(program, 1)), replace(CONFIG, layers=layers)))
    whole, ours = (
        _train(form(flat, make_optimizer(OPTIMIZER), 4, averaging), flat, rate)
        for form in (StepFunctions, LayerwiseFunctions)
    )
    for expected, found in zip(whole, ours, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5), expected, found)


def test_bfloat16_rounds_as_the_whole_step_does() -> None:
    config = replace(CONFIG, precision="bfloat16")
    flat = FlatModel(language_model(build_graph(library.get("PRIMER_EZ", 1)), config))
    whole, ours = (
        _train(form(flat, make_optimizer(OPTIMIZER), 4, 0.0), flat, None)
        for form in (StepFunctions, LayerwiseFunctions)
    )
    np.testing.assert_allclose(ours[0], whole[0], rtol=0.02)


def test_rematerialized_layers_keep_nothing_and_give_the_same_losses() -> None:
    model = language_model(build_graph(library.get("PRIMER_EZ", 1)), CONFIG)
    flat, rematerialized = FlatModel(model), FlatModel(replace(model, rematerialize=True))
    whole = _train(StepFunctions(flat, make_optimizer(OPTIMIZER), 4), flat, None)
    ours = _train(LayerwiseFunctions(rematerialized, make_optimizer(OPTIMIZER), 4), rematerialized, None)
    np.testing.assert_allclose(ours[0], whole[0], rtol=1e-5)


def test_a_block_without_parameters_trains() -> None:
    flat = FlatModel(language_model(build_graph(small_program("a = SIN h0\nb = ADD a h0")), CONFIG))
    whole, ours = (
        _train(form(flat, make_optimizer(OPTIMIZER), 4), flat, None) for form in (StepFunctions, LayerwiseFunctions)
    )
    np.testing.assert_allclose(ours[0], whole[0], rtol=1e-5)


def test_models_of_one_shape_share_all_programs_outside_their_blocks() -> None:
    optimizer, compiled = make_optimizer(OPTIMIZER), []
    for program in ("TRANSFORMER", "PRIMER_EZ"):
        flat = FlatModel(language_model(build_graph(library.get(program, 1)), CONFIG))
        functions = LayerwiseFunctions(flat, optimizer, 4)
        functions.compile_step(functions.initial_state(flat.init(np.random.default_rng(0))))
        compiled.append(functions)
    one, other = compiled
    assert one._outside is other._outside and one._update is other._update
    assert one._layer is not other._layer


def test_costs_are_close_to_those_of_the_whole_step() -> None:
    flat = FlatModel(language_model(build_graph(library.get("PRIMER_EZ", 1)), CONFIG))
    costs = []
    for form in (StepFunctions, LayerwiseFunctions):
        functions = form(flat, make_optimizer(OPTIMIZER), 4)
        functions.compile_step(functions.initial_state(flat.init(np.random.default_rng(0))))
        costs.append(functions.static_cost)
    whole, ours = costs
    assert whole.keys() == ours.keys()
    assert all(0.8 < ours[name] / whole[name] < 1.6 for name in whole), (whole, ours)


def test_brief_trainings_of_small_models_on_one_cpu_are_compiled_layer_by_layer() -> None:
    optimizer, model = make_optimizer(OPTIMIZER), language_model(build_graph(library.get("TRANSFORMER", 1)), CONFIG)
    assert type(step_functions(training_model(model, OPTIMIZER), optimizer, 4, steps=100)) is LayerwiseFunctions
    for steps in (None, 10**9):
        assert type(step_functions(FlatModel(model), optimizer, 4, steps=steps)) is StepFunctions
    unrolled = FlatModel(replace(model, config=replace(CONFIG, stack="unroll")))
    assert type(step_functions(unrolled, optimizer, 4, steps=100)) is StepFunctions
    assert type(step_functions(model, optimizer, 4, steps=100)) is StepFunctions
    mesh = Mesh(np.array(jax.devices()[:1]), (AXIS,))
    assert type(step_functions(FlatModel(model), optimizer, 4, mesh=mesh, steps=100)) is StepFunctions


def _train(functions: StepFunctions, model: FlatModel, rate: float | None) -> tuple[Any, ...]:
    """Return token losses, gradient norms and probe logits of some steps, the evaluation, and the last parameters."""
    state = functions.initial_state(model.init(np.random.default_rng(1)))
    if rate is not None:
        state = TrainState(state.parameters, state.optimizer, state.average, np.float32(rate))
    functions.compile_step(state)
    functions.compile_evaluation(state)
    state, results = functions.place(state), []
    for tokens in TOKENS:
        state, result = functions.step(state, tokens)
        results.append(jax.device_get(result))
    losses, norms, logits = (
        [getattr(each, name) for each in results] for name in ("token_losses", "gradient_norm", "probe_logits")
    )
    loss, by_position = functions.evaluate_by_position(state, TOKENS)
    return np.array(losses), np.array(norms), np.array(logits), loss, by_position, jax.device_get(state.evaluated)
