"""The canonical form keeps the meaning of a program: its witness is an interpreter that reads the DNA literally."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from primer_search.primitives.errors import InvalidProgramError
from primer_search.primitives.graphs.canonical import build_graph
from primer_search.primitives.graphs.graph import smallest_unit
from primer_search.primitives.graphs.interpreter import evaluate_reference
from primer_search.primitives.graphs.parameters import draw_parameters
from primer_search.primitives.programs import library
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.program import DNA
from primer_search.tests.support.literal_interpreter import LiteralInterpreter, Undecided
from primer_search.tests.support.strategies import mutants, random_dna

LENGTH = 5
TOLERANCE = 1e-9
LARGEST_UNIT = 64

# Ops between which the rewrites, the repair and the branches have most to do.
ALGEBRA = (
    "ADD", "DIFFERENCE", "MULTIPLY", "DIVIDE", "C_MUL", "MAX", "MIN", "ABS", "SQUARE", "ABS_ROOT", "RECIP", "SIN",
    "COS", "SIGN", "MASK", "RED_MEAN", "RED_SUM", "CONV_1X1", "SCALE",
)  # fmt: skip
ATTENTION = ("T_MAT_MUL", "MAT_MUL", "MASK", "MASK", "EXP", "ADD", "CONV_1X1", "DCONV_3X1", "RED_SUM", "DIVIDE")


def compared(dna: DNA, seed: int) -> str:
    """How the canonical graph and the literal reading of a program agree: `equal`, or why there is no saying.

    Raises:
        AssertionError: they differ by more than rounding explains.
    """
    try:
        graph = build_graph(dna, length_dependent=True)
    except InvalidProgramError:
        return "invalid"
    unit = smallest_unit(graph, multiple_of=2)
    if unit > LARGEST_UNIT:
        return "too wide for a test"
    rng = np.random.default_rng(seed)
    parameters = draw_parameters(graph, unit, rng, LENGTH)
    x = rng.standard_normal((2, LENGTH, 8 * unit))
    canonical = evaluate_reference(graph, parameters, x)

    def literal(parameters: list[dict[str, np.ndarray]], x: np.ndarray) -> np.ndarray:
        return LiteralInterpreter(dna, graph, parameters, unit, np.random.default_rng(seed + 1)).run(x)

    try:
        expected = literal(parameters, x)
    except Undecided:
        return "undecided"
    assert canonical.shape == expected.shape
    difference = distance(canonical, expected)
    if difference is None:
        return "not finite"
    if difference <= TOLERANCE:
        return "equal"
    # A program that turns rounding into a difference (1 / (x - x), say) has no value to compare.
    nudged = [{key: _nudged(array, rng) for key, array in arrays.items()} for arrays in parameters]
    sensitivity = max(distance(expected, literal(nudged, _nudged(x, rng))) or 0.0 for _ in range(3))
    assert difference <= 100 * sensitivity, f"differs by {difference:.2g} of the output's scale: {dna}"
    return "chaotic"


def distance(one: np.ndarray, other: np.ndarray) -> float | None:
    """Largest difference where both are finite, relative to the scale of `other`; None where nothing is finite."""
    finite = np.isfinite(one) & np.isfinite(other)
    if not finite.any():
        return None
    largest = max(float(np.abs(other[finite]).max()), 1e-300)
    scale = largest * float(np.sqrt(np.mean(np.square(other[finite] / largest))))
    return float(np.abs(one[finite] - other[finite]).max()) / max(scale, 1e-300)


def _nudged(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return array * (1 + 1e-14 * rng.standard_normal(array.shape))


@pytest.mark.parametrize("name", library.names())
def test_a_library_program_means_what_its_instructions_say(name: str) -> None:
    assert compared(library.get(name), seed=0) == "equal"


@pytest.mark.parametrize("name", library.names())
def test_mutants_mean_what_their_instructions_say(name: str, rng: np.random.Generator) -> None:
    outcomes = Counter(compared(dna, seed) for seed, dna in enumerate(mutants(rng, library.get(name), 60)))
    assert outcomes["equal"] >= 20, outcomes


@pytest.mark.parametrize(
    ("ops", "branches", "subprograms", "instructions"),
    [
        pytest.param(ALGEBRA, (1, 1, 1, 2), 1, 10, id="algebra"),
        pytest.param(ALGEBRA, (1, 1, 2, 4), 3, 5, id="branched calls"),
        pytest.param(ATTENTION, (1, 1, 1, 2), 2, 8, id="attention"),
    ],
)
def test_random_programs_mean_what_their_instructions_say(
    ops: tuple[str, ...], branches: tuple[int, ...], subprograms: int, instructions: int, rng: np.random.Generator
) -> None:
    programs = (random_dna(rng, subprograms, instructions, ops, branches) for _ in range(120))
    outcomes = Counter(compared(dna, seed) for seed, dna in enumerate(programs))
    assert outcomes["equal"] >= 40, outcomes


def test_all_primitives_in_random_programs_mean_what_they_say(rng: np.random.Generator) -> None:
    outcomes = Counter(compared(random_dna(rng, 2, 6, branches=(1, 1, 2)), seed) for seed in range(150))
    assert outcomes["equal"] >= 40, outcomes


BRANCHES_IN_BRANCHES = {
    "main": "y = outer h0 h0 branches=2",
    # The middle value depends on the outer branch alone, the last on both; `same` on neither.
    "outer": """
        middle = CONV_1X1 h0 width=32
        inner  = inner middle h1 branches=4
        same   = ABS h0
        twice  = MAX same constant=zero branches=4
        mixed  = CONV_1X1 twice width=8
        sum    = ADD inner mixed
    """,
    "inner": """
        learned = CONV_1X1 h0 width=32
        delayed = DCONV_3X1 learned branches=2
        back    = CONV_1X1 delayed width=8 branches=2
        product = MULTIPLY back h1
        total   = RED_SUM product
        result  = DIFFERENCE back total
    """,
}


def test_branches_within_branches_own_their_parameters() -> None:
    dna = assemble(BRANCHES_IN_BRANCHES, {"zero": 0.0}, (8, 32))
    graph = build_graph(dna)
    assert sorted(graph.scopes) == [2, 2, 4, 4]
    assert compared(dna, seed=3) == "equal"


def test_what_no_branch_changes_is_computed_once_and_repeated() -> None:
    dna = assemble({"main": "y = f h0 h0 branches=4", "f": "y = ABS h0"}, {"zero": 0.0}, (8,))
    graph = build_graph(dna)
    assert [node.scope for node in graph.nodes if node.op == "ABS"] == [()]
    assert compared(dna, seed=0) == "equal"


def test_each_call_owns_its_parameters() -> None:
    dna = assemble({"main": "a = f h0\nb = f h0\ny = DIFFERENCE a b", "f": "y = CONV_1X1 h0 width=8"}, {"z": 0.0}, (8,))
    graph = build_graph(dna)
    parameters = draw_parameters(graph, 2, np.random.default_rng(0))
    output = evaluate_reference(graph, parameters, np.random.default_rng(1).standard_normal((1, 3, 16)))
    assert np.abs(output).min() > 0


def test_operands_of_unequal_width_are_resized_by_a_learned_layer() -> None:
    lines = "wide = CONV_1X1 h0 width=32\nsum = ADD wide h0"
    dna = assemble({"main": lines}, {"zero": 0.0}, (8, 32))
    graph = build_graph(dna)
    repairs = [node for node in graph.nodes if node.path and isinstance(node.path[-1], str)]
    assert [node.op for node in repairs][:1] == ["CONV_1X1"]
    assert compared(dna, seed=0) == "equal"


def test_overflow_gives_infinity_without_a_warning() -> None:
    dna = assemble({"main": "a = EXP h0\nb = EXP a\nc = EXP b"}, {"zero": 0.0}, (8,))
    output = evaluate_reference(build_graph(dna), [{} for _ in range(4)], np.full((1, 2, 8), 3.0))
    assert np.isinf(output).all()
