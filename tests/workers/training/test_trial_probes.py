"""The probes of the real language model, on honest blocks and on blocks that leak in ways that no program could.

The step is only the forward pass of the model: causality needs no gradient, and this compiles faster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from primer_search.models.block import compile_block
from primer_search.models.config import ModelConfig
from primer_search.models.language_model import LanguageModel, language_model
from primer_search.primitives import build_graph
from primer_search.primitives.causality.causality_test import check_causality
from primer_search.primitives.errors import InvalidProgramError
from primer_search.primitives.programs import library
from primer_search.primitives.programs.assembler import assemble
from primer_search.workers.config import OptimizerConfig
from primer_search.workers.training.steps.optimizer import initial_state, make_optimizer
from primer_search.workers.training.steps.train_state import StepResult, TrainState
from primer_search.workers.training.steps.train_step import StepFunctions
from primer_search.workers.training.trial_probes import CausalityFault, FiniteFault, probe_causality, probe_finite

MODEL = ModelConfig(layers=1, unit=1, length=16, vocabulary=300)
Leak = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class HandMadeBlock:
    """x + size * gate * function(x); the initial gate is 0, and probes draw it at random."""

    function: Leak
    size: float = 1.0

    def init(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"gate": np.zeros(MODEL.width, np.float32)}

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"gate": rng.uniform(0.5, 1.5, MODEL.width).astype(np.float32)}

    def apply(self, parameters: Any, x: Any) -> Any:
        return x + self.size * parameters["gate"] * self.function(x, jnp)


class ForwardStep:
    """A training step that does not train."""

    def __init__(self, model: LanguageModel):
        self._forward = jax.jit(model.losses_and_probe_logits)

    def step(self, state: TrainState, tokens: np.ndarray) -> tuple[TrainState, StepResult]:
        losses, probe_logits = self._forward(state.parameters, tokens)
        return state, StepResult(losses, jnp.zeros(()), probe_logits)


def probe(model: LanguageModel, batch: int = 4, seeds: int = 1) -> None:
    step = ForwardStep(model)
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        tokens = rng.integers(model.config.vocabulary, size=(batch, model.config.length + 1)).astype(np.int32)
        probe_causality(step, model, (), tokens, rng)  # type: ignore[arg-type]


def ahead(x: Any, by: int) -> Any:
    return jnp.pad(x, ((0, 0), (0, by), (0, 0)))[:, by:]


CHEATS: dict[str, Leak] = {
    "reads the very token to predict": lambda x, xp: ahead(x, 1),
    "reads two ahead": lambda x, xp: ahead(x, 2),
    "reads far ahead": lambda x, xp: ahead(x, 9),
    "knows the last token": lambda x, xp: x[:, -1:],
    "knows the mean of all": lambda x, xp: xp.mean(x, axis=1, keepdims=True),
    "knows a magnitude, not a sign": lambda x, xp: xp.square(ahead(x, 1)),
    "sums from the end": lambda x, xp: xp.cumsum(x[:, ::-1], axis=1)[:, ::-1] / 16,
    "knows one channel of the next token": lambda x, xp: ahead(x, 1) * (xp.arange(8) == 7),
    "knows the largest of all": lambda x, xp: xp.max(x, axis=1, keepdims=True),
    "only the first position looks": lambda x, xp: ahead(x, 9) * (xp.arange(16) == 0)[:, None],
    "mixes the sequence by its mean over itself": lambda x, xp: x / (1 + xp.sum(xp.square(x), axis=1, keepdims=True)),
}


@pytest.mark.parametrize("name", CHEATS)
def test_a_leak_of_a_hundredth_behind_a_closed_gate_is_found(name: str) -> None:
    with pytest.raises(CausalityFault, match="sees the future"):
        probe(LanguageModel(MODEL, HandMadeBlock(CHEATS[name], 0.01)))


@pytest.mark.parametrize("batch", [1, 2])
def test_a_batch_of_one_or_two_sequences_is_enough_to_find_a_leak(batch: int) -> None:
    with pytest.raises(CausalityFault):
        probe(LanguageModel(MODEL, HandMadeBlock(lambda x, xp: ahead(x, 1), 0.1)), batch)


def test_an_odd_vocabulary_and_an_odd_length_hide_no_leak() -> None:
    model = replace(MODEL, vocabulary=301, length=15)
    with pytest.raises(CausalityFault):
        probe(LanguageModel(model, HandMadeBlock(lambda x, xp: ahead(x, 1), 0.05)))


@pytest.mark.parametrize(
    "function",
    [
        lambda x, xp: xp.pad(x, ((0, 0), (1, 0), (0, 0)))[:, :-1],
        lambda x, xp: xp.cumsum(x, axis=1),
        lambda x, xp: 100.0 * xp.tanh(x),
        lambda x, xp: xp.exp(xp.cumsum(x, axis=1) / 4),
    ],
    ids=["the previous token", "sums from the start", "large values", "wide range"],
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_block_that_reads_only_the_past_passes(function: Leak, precision: str) -> None:
    probe(LanguageModel(replace(MODEL, precision=precision), HandMadeBlock(function)), seeds=5)


@pytest.mark.parametrize("name", ["reads the very token to predict", "knows the mean of all"])
def test_a_plain_leak_is_also_found_in_bfloat16(name: str) -> None:
    with pytest.raises(CausalityFault):
        probe(LanguageModel(replace(MODEL, precision="bfloat16"), HandMadeBlock(CHEATS[name])))


def test_a_block_that_overflows_with_random_parameters_is_not_finite() -> None:
    for function in (lambda x, xp: xp.exp(200 * x), lambda x, xp: xp.exp(200 * x * (xp.arange(16) == 15)[:, None])):
        with pytest.raises(FiniteFault):
            probe(LanguageModel(MODEL, HandMadeBlock(function)))


@pytest.mark.parametrize("name", library.names())
def test_no_library_program_is_refused(name: str) -> None:
    dna = library.get(name, MODEL.unit)
    graph = build_graph(dna)
    check_causality(graph)
    probe(language_model(graph, MODEL))


@pytest.mark.parametrize("name", ["PRIMER", "PRIMER_LITERAL"])
def test_primer_is_refused_without_its_flag(name: str) -> None:
    with pytest.raises(InvalidProgramError) as refusal:
        build_graph(replace(library.get(name, MODEL.unit), length_dependent=False))
    assert refusal.value.reason == "length_dependent"


LEAKING_PROGRAMS = {
    "no mask": "s = T_MAT_MUL h0 h0\no = MAT_MUL s h0",
    "mask after the sum": """
        scores = T_MAT_MUL h0 h0
        total = RED_SUM scores
        masked = MASK scores
        weights = DIVIDE masked total
        mixed = MAT_MUL weights h0
        output = ADD mixed h0
    """,
    "hidden by a tiny factor and a norm": """
        s = T_MAT_MUL h0 h0
        o = MAT_MUL s h0
        tiny = C_MUL o constant=tiny
        centred = DIFFERENCE tiny tiny
        size = SQUARE tiny
        mean = RED_MEAN size
        root = ABS_ROOT mean
        scaled = RECIP root
        output = MULTIPLY tiny scaled
    """,
    "even in the future": """
        scores = T_MAT_MUL h0 h0
        squares = SQUARE scores
        total = RED_SUM squares
        bent = TANH h0
        scaled = MULTIPLY bent total
        output = ADD scaled h0
    """,
    "only one of two scores masked": "s = T_MAT_MUL h0 h0\nm = MASK s\np = MAT_MUL s m\no = MAT_MUL p h0",
}


@pytest.mark.parametrize("name", LEAKING_PROGRAMS)
def test_a_leaking_program_is_refused_by_the_block_check_and_by_the_probe(name: str) -> None:
    graph = build_graph(assemble({"main": LEAKING_PROGRAMS[name]}, {"tiny": 1e-4}, (8,)))
    with pytest.raises(InvalidProgramError) as refusal:
        check_causality(graph)
    assert refusal.value.reason == "causality"
    with pytest.raises(CausalityFault):
        probe(language_model(graph, MODEL))


def test_dependence_on_the_length_alone_is_refused_by_the_block_check() -> None:
    # Behind a mask every key is past, but their mean divides by all of them.
    text = "s = T_MAT_MUL h0 h0\nm = MASK s\nmean = RED_MEAN m\no = MULTIPLY h0 mean"
    graph = build_graph(assemble({"main": text}, {"zero": 0.0}, (8,)), length_dependent=True)
    check_causality(graph)  # allowed for a program that is tied to its length
    with pytest.raises(InvalidProgramError):
        build_graph(assemble({"main": text}, {"zero": 0.0}, (8,)))


def test_the_first_step_refuses_an_infinite_gradient_and_takes_a_finite_one() -> None:
    optimizer = make_optimizer(OptimizerConfig())
    tokens = np.random.default_rng(0).integers(300, size=(4, 17)).astype(np.int32)
    for text, finite in (("a = CONV_1X1 h0 width=8", True), ("b = C_MUL h0 constant=large\na = COS b", False)):
        graph = build_graph(assemble({"main": text}, {"large": 1e25}, (8,)))
        model = LanguageModel(MODEL, compile_block(graph, MODEL.unit))
        functions = StepFunctions(model, optimizer, 4)
        parameters = model.init(np.random.default_rng(0))
        state = TrainState(parameters, initial_state(optimizer, parameters))
        functions.compile_step(state)
        if finite:
            after = probe_finite(functions, jax.tree.map(np.array, state), tokens)
            assert not np.array_equal(after.parameters["embedding"], parameters["embedding"])
        else:
            with pytest.raises(FiniteFault):
                probe_finite(functions, jax.tree.map(np.array, state), tokens)


def test_a_leak_in_outputs_of_enormous_size_is_refused() -> None:
    # Their size squared is infinite in float64: measured against that, every leak would look small.
    leak = "s = T_MAT_MUL h0 h0\no = MAT_MUL s h0\nt = TANH o\na = C_MUL t constant=large\nb = C_MUL a constant=large"
    with pytest.raises(InvalidProgramError):
        check_causality(build_graph(assemble({"main": leak}, {"large": 1e100}, (8,))))
