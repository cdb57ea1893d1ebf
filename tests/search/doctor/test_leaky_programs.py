"""Every program and every block that cheats is refused, by whom and for what it should be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from primer_search.models.config import ModelConfig
from primer_search.models.language_model import LanguageModel
from primer_search.primitives import DNA, InvalidProgramError, build_graph
from primer_search.primitives.causality.causality_proof import prove_causal
from primer_search.primitives.causality.causality_test import LENGTH, check_causality, probe_block
from primer_search.primitives.graphs.graph import smallest_unit
from primer_search.primitives.graphs.parameters import parameter_count
from primer_search.primitives.programs import library
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.search.doctor.leaky_blocks import LEAKY_BLOCKS, LeakyBlock
from primer_search.search.doctor.leaky_programs import LEAKY_PROGRAMS
from primer_search.search.doctor.probe_harness import SMALL, BlockProber, ProbeResult, run_probes
from primer_search.search.doctor.refusals import STAGES, refusals
from primer_search.search.evolution.paper_mutations import mutate
from primer_search.tests.support.strategies import random_dna
from primer_search.workers.config import OptimizerConfig
from primer_search.workers.training.steps.optimizer import initial_state, make_optimizer
from primer_search.workers.training.steps.train_state import TrainState
from primer_search.workers.training.steps.train_step import StepFunctions

SEEDS = range(5)
HONEST = {
    "sees the past": LeakyBlock("past", "", lambda gate, x: x + gate * jnp.cumsum(x, axis=1)),
    "sees itself": LeakyBlock("itself", "", lambda gate, x: gate * jnp.tanh(3 * x)),
}


# --- programs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LEAKY_PROGRAMS)
def test_a_program_that_cheats_is_refused_by_each_stage_that_must_whatever_the_baseline(name: str) -> None:
    leaky = LEAKY_PROGRAMS[name]
    for seed in SEEDS:
        found = refusals(leaky.dna, seed)
        assert set(leaky.refused_by) <= {refusal.stage for refusal in found}
        assert found[0].reason == leaky.reason


@pytest.mark.parametrize("name", LEAKY_PROGRAMS)
def test_a_program_that_cheats_is_refused_by_what_a_search_asks(name: str) -> None:
    leaky = LEAKY_PROGRAMS[name]
    with pytest.raises(InvalidProgramError) as refusal:
        check_causality(build_graph(leaky.dna))
    assert refusal.value.reason == leaky.reason


def test_some_leaks_only_the_proof_can_see() -> None:
    for name in ("leak of 1e-14", "leak above a threshold"):
        graph = build_graph(LEAKY_PROGRAMS[name].dna)
        for seed in SEEDS:
            probe_block(graph, seed)
        with pytest.raises(InvalidProgramError):
            prove_causal(graph)


def test_leaky_programs_are_many_different_and_described() -> None:
    assert len(LEAKY_PROGRAMS) >= 40
    assert len({leaky.dna for leaky in LEAKY_PROGRAMS.values()}) == len(LEAKY_PROGRAMS)
    structures = [
        build_graph(leaky.dna).structure_hash for leaky in LEAKY_PROGRAMS.values() if leaky.refused_by != ("language",)
    ]
    assert len(set(structures)) == len(structures), "two of them are one program in canonical form"
    for leaky in (*LEAKY_PROGRAMS.values(), *LEAKY_BLOCKS.values()):
        assert len(leaky.how) > 15
        assert not leaky.how.endswith(".")
    assert all(set(leaky.refused_by) <= set(STAGES) for leaky in LEAKY_PROGRAMS.values())


@pytest.mark.parametrize("name", library.names())
def test_no_stage_has_anything_against_a_library_program(name: str) -> None:
    for seed in SEEDS:
        assert refusals(library.get(name, SMALL.unit), seed) == []


def test_an_honest_program_whose_output_is_rounding_alone_is_not_called_a_cheat() -> None:
    lines = """
        s = T_MAT_MUL h0 h0
        w = MASK s
        v = MAT_MUL w h0
        m = RED_MEAN v
        d = DIFFERENCE v m
        o = RED_MEAN d
    """
    dna = assemble({"main": "\n".join(line for line in lines.splitlines() if line.strip())}, {"zero": 0.0}, (8,))
    for seed in SEEDS:
        assert all(refusal.reason != "causality" for refusal in refusals(dna, seed))


def test_what_the_proof_accepts_near_the_line_the_test_accepts() -> None:
    rng = np.random.default_rng(5)
    border = [leaky.dna for leaky in LEAKY_PROGRAMS.values()] + [library.get(name) for name in library.names()]
    ops = (
        "T_MAT_MUL",
        "MAT_MUL",
        "MASK",
        "MASK",
        "MASK",
        "EXP",
        "RED_SUM",
        "DIVIDE",
        "MULTIPLY",
        "ADD",
        "SHIFT",
        "COS",
    )
    verdicts: Counter[tuple[bool, bool]] = Counter()
    for number in range(400):
        if number % 4:
            dna = border[int(rng.integers(len(border)))]
            for _ in range(int(rng.integers(1, 4))):
                dna = mutate(dna, rng)[0]
        else:
            dna = random_dna(rng, 1, 10, ops, (1,))
        verdict = _verdicts(dna)
        if verdict is not None:
            verdicts[verdict] += 1
            assert verdict != (True, False), dna_to_json(dna)
    assert verdicts[True, True] > 50
    assert verdicts[False, False] > 100


def _verdicts(dna: DNA) -> tuple[bool, bool] | None:
    """Whether the proof, and whether the test has nothing against it; None for what is invalid or too large."""
    try:
        graph = build_graph(replace(dna, length_dependent=True))
    except InvalidProgramError:
        return None
    if parameter_count(graph, smallest_unit(graph), LENGTH) > 300_000:
        return None

    def accepts(check: Callable[..., None]) -> bool:
        try:
            check(graph)
        except InvalidProgramError as error:
            return error.reason != "causality"
        return True

    return accepts(prove_causal), accepts(probe_block)


# --- blocks -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prober() -> BlockProber:
    return BlockProber((*LEAKY_BLOCKS.values(), *HONEST.values()))


@pytest.mark.parametrize("name", LEAKY_BLOCKS)
def test_a_block_that_cheats_is_refused_when_and_for_what_it_should_be(name: str, prober: BlockProber) -> None:
    leaky = LEAKY_BLOCKS[name]
    for seed in SEEDS:
        verdict = prober.probe(leaky, seed)
        assert (verdict.refused_by, verdict.reason) == (leaky.refused_by, leaky.reason)
        assert verdict.message


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_block_passes(name: str, prober: BlockProber) -> None:
    for seed in SEEDS:
        assert prober.probe(HONEST[name], seed) == ProbeResult()


def test_a_gate_that_real_training_opens_is_caught_and_was_shut_before() -> None:
    leaky = LEAKY_BLOCKS["gate that starts shut"]
    model = LanguageModel(ModelConfig(layers=1, unit=1, length=16, vocabulary=300), leaky)
    optimizer = make_optimizer(OptimizerConfig(learning_rate=0.03, warmup_steps=1))
    functions = StepFunctions(model, optimizer, 4)
    parameters = model.init(np.random.default_rng(0))
    state = TrainState(parameters, initial_state(optimizer, parameters))
    functions.compile_step(state)
    rng = np.random.default_rng(0)
    for _ in range(30):
        tokens = rng.integers(300, size=(4, 17)).astype(np.int32)
        state, _ = functions.step(jax.tree.map(np.array, state), tokens)
    assert np.abs(np.asarray(state.parameters["blocks"]["gate"])).max() > 0.01, "noise is predicted by reading it only"
    assert _probe(functions, model, parameters, state) == ProbeResult()
    assert _probe(functions, model, state.parameters, state).reason == "causality"


def _probe(functions: StepFunctions, model: LanguageModel, parameters: Any, state: TrainState) -> ProbeResult:
    return run_probes(functions, model, jax.tree.map(np.array, parameters), optimizer_state=state.optimizer)
