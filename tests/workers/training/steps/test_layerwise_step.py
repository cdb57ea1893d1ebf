"""A step that is compiled layer by layer computes what the whole step computes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

from primer_search.models.config import ModelConfig
from primer_search.models.language_model import language_model
from primer_search.primitives import build_graph
from primer_search.primitives.programs import library
from primer_search.tests.support.exported_programs import small_program
from primer_search.workers.config import OptimizerConfig
from primer_search.workers.training.steps.flat_model import FlatModel
from primer_search.workers.training.steps.layerwise_step import KEPT, LayerwiseStep, _update_function
from primer_search.workers.training.steps.optimizer import initial_state, make_optimizer
from primer_search.workers.training.steps.train_state import TrainState
from primer_search.workers.training.steps.train_step import StepFunctions

CONFIG = ModelConfig(layers=3, unit=1, length=16, vocabulary=300)
OPTIMIZER = OptimizerConfig(weight_decay=0.1)
TOKENS = np.random.default_rng(0).integers(0, 300, (3, 4, 17)).astype(np.int32)


@pytest.mark.parametrize(
    ("program", "layers", "unit", "averaging", "rate"),
    [
        ("TRANSFORMER", 3, 1, 8.0, None),
        ("PRIMER_EZ", 2, 1, 0.0, 0.5),
        ("PRIMER", 1, 1, 8.0, None),
        ("TRANSFORMER_MESA", 2, 2, 8.0, None),  # at unit 1, its loss amplifies rounding a hundredfold
    ],
)
def test_steps_and_evaluation_equal_those_of_the_whole_step(
    program: str, layers: int, unit: int, averaging: float, rate: float | None
) -> None:
    config = replace(CONFIG, layers=layers, unit=unit)
    flat = FlatModel(language_model(build_graph(library.get(program, unit)), config))
    whole, ours = (
        _train(StepFunctions(flat, make_optimizer(OPTIMIZER), 4, averaging, by_layer=by_layer), flat, rate)
        for by_layer in (False, True)
    )
    for expected, found in zip(whole, ours, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5), expected, found)


def test_bfloat16_rounds_as_the_whole_step_does() -> None:
    config = replace(CONFIG, layers=2, precision="bfloat16")
    flat = FlatModel(language_model(build_graph(library.get("PRIMER_EZ", 1)), config))
    whole, ours = (
        _train(StepFunctions(flat, make_optimizer(OPTIMIZER), 4, by_layer=by_layer), flat, None)
        for by_layer in (False, True)
    )
    np.testing.assert_allclose(ours[0], whole[0], rtol=0.02)
    np.testing.assert_allclose(ours[1], whole[1], rtol=0.05)


def test_a_block_without_parameters_trains() -> None:
    flat = FlatModel(language_model(build_graph(small_program("a = SIN h0\nb = ADD a h0")), CONFIG))
    whole, ours = (
        _train(StepFunctions(flat, make_optimizer(OPTIMIZER), 4, by_layer=by_layer), flat, None)
        for by_layer in (False, True)
    )
    np.testing.assert_allclose(ours[0], whole[0], rtol=1e-5)


def test_models_share_what_is_outside_their_blocks_and_with_rows_of_one_length_the_update() -> None:
    config, compiled = replace(CONFIG, layers=1, unit=8), []
    for program in ("TRANSFORMER", "PRIMER_EZ", "TRANSFORMER_PP"):
        flat = FlatModel(language_model(build_graph(library.get(program, 8)), config))
        parameters = flat.init(np.random.default_rng(0))
        state = TrainState(parameters, initial_state(make_optimizer(OPTIMIZER), parameters))
        step = LayerwiseStep(flat, make_optimizer(OPTIMIZER), 4, 0.0)
        before = _update_function.cache_info().misses
        step.compile_step(state)
        compiled.append((step, _update_function.cache_info().misses - before))
    (one, _), (near, near_compiled), (far, far_compiled) = compiled
    assert one._compiled is not None and near._compiled is not None and far._compiled is not None
    assert one._compiled[0] is near._compiled[0] is far._compiled[0]
    assert (near_compiled, far_compiled) == (0, 1)
    assert one._compiled[1] is not near._compiled[1]


def test_costs_are_close_to_those_of_the_whole_step() -> None:
    flat = FlatModel(language_model(build_graph(library.get("PRIMER_EZ", 1)), CONFIG))
    costs = []
    for by_layer in (False, True):
        functions = StepFunctions(flat, make_optimizer(OPTIMIZER), 4, by_layer=by_layer)
        functions.compile_step(functions.initial_state(flat.init(np.random.default_rng(0))))
        costs.append(functions.static_cost)
    whole, ours = costs
    assert whole.keys() == ours.keys()
    assert all(0.8 < ours[name] / whole[name] < 1.6 for name in whole), (whole, ours)


def test_jax_knows_the_kept_operations_by_these_names() -> None:
    functions = "a = SIN h0\nb = COS a\nc = TANH b\nd = LOG c\ne = EXP d"
    programs = [library.get("PRIMER_EZ", 1), library.get("TRANSFORMER_MESA", 1), small_program(functions)]
    found: set[str] = set()
    for program in programs:
        block = language_model(build_graph(program), CONFIG).block
        x = np.zeros((2, CONFIG.length, CONFIG.width), np.float32)
        _collect_primitives(jax.make_jaxpr(block.apply)(block.init(np.random.default_rng(0)), x).jaxpr, found)
    assert found >= KEPT


def test_a_state_of_probes_has_neither_average_nor_rate() -> None:
    flat = FlatModel(language_model(build_graph(library.get("TRANSFORMER", 1)), CONFIG))
    functions = StepFunctions(flat, make_optimizer(OPTIMIZER), 4, averaging=8.0, by_layer=True)
    state = functions.initial_state(flat.init(np.random.default_rng(0)))
    functions.compile_step(replace(state, rate=np.float32(1.0)))
    bare = TrainState(state.parameters, state.optimizer)
    _, result = functions.step(jax.tree.map(np.array, bare), TOKENS[0])
    whole = StepFunctions(flat, make_optimizer(OPTIMIZER), 4)
    whole.compile_step(bare)
    _, expected = whole.step(jax.tree.map(np.array, bare), TOKENS[0])
    np.testing.assert_allclose(result.probe_logits, expected.probe_logits, atol=1e-5)


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


def _collect_primitives(jaxpr: Any, found: set[str]) -> None:
    """Add the names of all primitives, those of inner functions included."""
    for equation in jaxpr.eqns:
        found.add(equation.primitive.name)
        for value in jax.tree.leaves(
            equation.params, is_leaf=lambda each: hasattr(each, "eqns") or hasattr(each, "jaxpr")
        ):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                _collect_primitives(inner, found)
