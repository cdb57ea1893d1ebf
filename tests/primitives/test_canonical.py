"""Identity of programs: what changes the structure hash, what must not, and that every rewrite is true and fires."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from primer_search.primitives.errors import InvalidProgramError
from primer_search.primitives.graphs.canonical import build_graph
from primer_search.primitives.graphs.graph import Graph
from primer_search.primitives.graphs.rewrites import REWRITES, Rewrite
from primer_search.primitives.ops.op_table import OPS
from primer_search.primitives.programs import library
from primer_search.primitives.programs.assembler import assemble, replace_subprogram
from primer_search.primitives.programs.program import DNA, Instruction, Subprogram
from primer_search.tests.support.strategies import mutants, random_dna

CONSTANTS = {"zero": 0.0, "half": 0.5, "minus": -1.0, "four": 4.0}
WIDTHS = (8, 16, 32, 4, 2)


def graph_of(subprograms: Mapping[str, str] | str) -> Graph:
    """The canonical graph of a program given as text (of MAIN, or of all subprograms)."""
    texts = {"main": subprograms} if isinstance(subprograms, str) else subprograms
    return build_graph(assemble(texts, CONSTANTS, WIDTHS))


def identity(subprograms: Mapping[str, str] | str) -> str:
    return graph_of(subprograms).structure_hash


# --- rewrites ---------------------------------------------------------------------------------------------------


def value_of(expression: ast.expr, values: Mapping[str, np.ndarray | float]) -> np.ndarray:
    """What one side of a rewrite evaluates to, by the rows of the op table."""
    if isinstance(expression, ast.Name):
        return np.asarray(values[expression.id])
    assert isinstance(expression, ast.Call) and isinstance(expression.func, ast.Name)
    op = OPS[expression.func.id]
    operands = [value_of(argument, values) for argument in expression.args[: op.operands]]
    constant = None
    if op.uses_constant:
        source = ast.unparse(expression.args[-1])
        constant = float(eval(source, {"max": max, "min": min}, dict(values)))
    return op.apply(np, operands, {}, constant, op.kernel)


def pattern_lines(expression: ast.expr, constants: Mapping[str, float]) -> tuple[list[str], dict[str, float]]:
    """A pattern as lines of a program over x (h0 itself) and y (a projection of it), and the constants they need."""
    lines, bank = ["y = CONV_1X1 h0 width=8"], {"zero": 0.0}

    def visit(node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return {"x": "h0"}.get(node.id, node.id)
        assert isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        op = OPS[node.func.id]
        operands = [visit(argument) for argument in node.args[: op.operands]]
        fields = ""
        if op.uses_constant:
            source = ast.unparse(node.args[-1])
            name = f"c{len(bank)}"
            bank[name] = float(eval(source, {"max": max, "min": min}, dict(constants)))
            fields = f" constant={name}"
        lines.append(f"v{len(lines)} = {op.name} {' '.join(operands)}{fields}")
        return f"v{len(lines) - 1}"

    visit(expression)
    return lines, bank


@pytest.mark.parametrize("row", REWRITES, ids=lambda row: row.pattern)
def test_both_sides_of_a_rewrite_are_equal(row: Rewrite, rng: np.random.Generator) -> None:
    pattern, replacement = row.parse()
    for constants in ({"a": 0.7, "b": -1.3}, {"a": -0.2, "b": 0.4}, {"a": 0.0, "b": 3.0}):
        x, y = rng.standard_normal((2, 3, 4, 5))
        x[0, 0, 0] = y[1, 1, 1] = 0.0
        values = {"x": x, "y": y, **constants}
        np.testing.assert_allclose(value_of(pattern, values), value_of(replacement, values), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("row", REWRITES, ids=lambda row: row.pattern)
def test_every_rewrite_fires(row: Rewrite) -> None:
    constants = {"a": 0.7, "b": -1.3}
    pattern, replacement = row.parse()
    graphs = []
    for side in (pattern, replacement):
        lines, bank = pattern_lines(side, constants)
        if isinstance(side, ast.Name):  # an output that is x or y itself still needs an instruction
            lines.append(f"out = ABS {'h0' if side.id == 'x' else 'y'}")
        elif isinstance(replacement, ast.Name):
            lines.append(f"out = ABS v{len(lines) - 1}")
        graphs.append(build_graph(assemble({"main": "\n".join(lines)}, bank, (8,))))
    assert graphs[0].structure_hash == graphs[1].structure_hash
    calls = (call.func for call in ast.walk(pattern) if isinstance(call, ast.Call))
    written = [name.id for name in calls if isinstance(name, ast.Name) and name.id in OPS]
    ops = [node.op for node in graphs[0].nodes if node.op not in ("INPUT", "CONV_1X1")]
    assert ops not in (written[::-1], [*written[::-1], "ABS"]), "the pattern is still there"


@pytest.mark.parametrize(
    ("longer", "shorter"),
    [
        ("a = ABS h0\nb = ABS a", "a = ABS h0"),
        ("a = SIGN h0\nb = SIGN a", "a = SIGN h0"),
        ("a = SQUARE h0\nb = ABS a", "a = SQUARE h0"),
        ("a = EXP h0\nb = MAX a constant=zero", "a = EXP h0"),
        ("a = SIGMOID h0\nb = MAX a constant=minus", "a = SIGMOID h0"),
        ("a = ABS h0\nb = COS a", "b = COS h0"),
        ("a = C_MUL h0 constant=minus\nb = SQUARE a", "b = SQUARE h0"),
        ("a = ABS h0\nb = LOG a", "b = LOG h0"),
        ("a = MASK h0\nb = EXP a", "b = EXP h0"),
        ("a = RED_MEAN h0\nb = RED_MAX a", "b = RED_MEAN h0"),
        (
            "s = T_MAT_MUL h0 h0\nm = MASK s\nn = MASK m\no = MAT_MUL n h0",
            "s = T_MAT_MUL h0 h0\nm = MASK s\no = MAT_MUL m h0",
        ),
    ],
)  # fmt: skip
def test_laws_of_the_ops_shorten_programs(longer: str, shorter: str) -> None:
    assert identity(longer) == identity(shorter)


def test_max_is_kept_where_it_cuts_something_off() -> None:
    assert identity("a = EXP h0\nb = MAX a constant=half") != identity("a = EXP h0")
    assert identity("a = MAX h0 constant=zero") != identity("a = MAX h0 constant=minus")


def test_mask_is_kept_on_scores() -> None:
    scores = "s = T_MAT_MUL h0 h0\n"
    assert identity(scores + "m = MASK s\no = MAT_MUL m h0") != identity(scores + "o = MAT_MUL s h0")


# --- identity: what must not change it ---------------------------------------------------------------------------

SAME = {
    "dead code": (
        "a = SQUARE h0\nb = ADD a h0",
        "d = EXP h0\na = SQUARE h0\ne = CONV_31X1 d width=16\nb = ADD a h0",
    ),
    "the order of independent instructions": (
        "a = CONV_1X1 h0 width=8\nb = SIN h0\nc = SUB a b".replace("SUB", "DIFFERENCE"),
        "b = SIN h0\na = CONV_1X1 h0 width=8\nc = DIFFERENCE a b",
    ),
    "the order of two equal projections": (
        "a = CONV_1X1 h0 width=8\nb = CONV_1X1 h0 width=8\nt = TANH a\nc = ADD t b",
        "b = CONV_1X1 h0 width=8\na = CONV_1X1 h0 width=8\nt = TANH a\nc = ADD t b",
    ),
    "which of two equal projections is used once more": (
        "p = CONV_1X1 h0 width=8\nq = CONV_1X1 h0 width=8\na = SQUARE p\nb = SQUARE q\nc = ADD a b\nd = DIFFERENCE c p",
        "p = CONV_1X1 h0 width=8\nq = CONV_1X1 h0 width=8\na = SQUARE p\nb = SQUARE q\nc = ADD a b\nd = DIFFERENCE c q",
    ),
    "the operands' order in a sum": ("a = SIN h0\nb = ADD a h0", "a = SIN h0\nb = ADD h0 a"),
    "the operands' order in a product": ("a = SIN h0\nb = MULTIPLY a h0", "a = SIN h0\nb = MULTIPLY h0 a"),
    "h0 for h1 in MAIN": ("a = SIN h0\nb = ADD a h1", "a = SIN h1\nb = ADD a h0"),
    "an unused second operand": ("a = SIN h0\nb = SIN a", "a = SIN h0 h1\nb = SIN a a"),
    "unused constants and widths": ("a = SIN h0", "a = SIN h0 constant=four width=32"),
    "duplicates without parameters": (
        "a = SIN h0\nb = SQUARE a\nc = ADD b a",
        "a = SIN h0\nd = SIN h1\nb = SQUARE d\nc = ADD b a",
    ),
    "branches of a dense layer": ("a = CONV_1X1 h0 width=8 branches=4", "a = CONV_1X1 h0 width=32"),
    "branches of a wide convolution": ("a = CONV_3X1 h0 width=16 branches=2", "a = CONV_3X1 h0 width=32"),
    "calls for what they call": (
        {"main": "a = f h0 h0\nb = f a h0", "f": "x = SIN h0\ny = ADD x h1"},
        "a = SIN h0\nb = ADD a h0\nc = SIN b\nd = ADD c h0",
    ),
    "names of subprograms": (
        {"main": "a = f h0", "f": "x = CONV_1X1 h0 width=8\ny = EXP x"},
        {"main": "a = g h0", "g": "x = CONV_1X1 h0 width=8\ny = EXP x"},
    ),
    "the order of subprograms": (
        {"main": "a = f h0\nb = g a", "f": "x = CONV_1X1 h0 width=8", "g": "x = SIN h0"},
        {"main": "a = f h0\nb = g a", "g": "x = SIN h0", "f": "x = CONV_1X1 h0 width=8"},
    ),
    "a subprogram nobody calls": (
        {"main": "a = SIN h0"},
        {"main": "a = SIN h0", "f": "x = CONV_1X1 h0 width=8"},
    ),
    "a call whose second operand is never read": (
        {"main": "a = SIN h0\nb = f h0 a", "f": "x = COS h0\nd = ADD x h1\ny = ABS x"},
        "x = COS h0\ny = ABS x",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", SAME)
def test_identity_does_not_depend_on(what: str) -> None:
    one, other = SAME[what]
    assert identity(one) == identity(other)


def test_identity_does_not_depend_on_the_order_of_the_banks(rng: np.random.Generator) -> None:
    for dna in mutants(rng, library.PRIMER_EZ, 20):
        constants, dimensions = (rng.permutation(len(bank)) for bank in (dna.constants, dna.dimensions))
        where = {"constant": np.argsort(constants), "dimension": np.argsort(dimensions)}

        def moved(step: Instruction, where: dict[str, np.ndarray] = where) -> Instruction:
            return replace(step, **{key: int(places[getattr(step, key)]) for key, places in where.items()})

        permuted = DNA(
            tuple(dna.constants[i] for i in constants),
            tuple(dna.dimensions[i] for i in dimensions),
            tuple(Subprogram(s.name, tuple(map(moved, s.instructions))) for s in dna.subprograms),
        )
        assert hash_or_reason(permuted) == hash_or_reason(dna)


def test_identity_does_not_depend_on_the_order_of_instructions(rng: np.random.Generator) -> None:
    for dna in [*mutants(rng, n=60), *(random_dna(rng, 1, 12, branches=(1,), ops=PROJECTIONS) for _ in range(150))]:
        shuffled = replace(dna, subprograms=tuple(_shuffled(s, rng) for s in dna.subprograms))
        assert hash_or_reason(shuffled) == hash_or_reason(dna)


PROJECTIONS = ("CONV_1X1", "CONV_1X1", "ADD", "MULTIPLY", "DIFFERENCE", "TANH", "SQUARE", "DCONV_3X1")
"""Ops that build programs with many equal projections, the hard case of a canonical order."""


def test_identity_does_not_depend_on_the_order_of_operands_that_commute(rng: np.random.Generator) -> None:
    for dna in [*mutants(rng, n=60), *(random_dna(rng, 1, 12, branches=(1,), ops=PROJECTIONS) for _ in range(150))]:
        swapped = replace(dna, subprograms=tuple(_swapped(s, rng) for s in dna.subprograms))
        assert hash_or_reason(swapped) == hash_or_reason(dna)


def hash_or_reason(dna: DNA) -> str:
    try:
        return build_graph(dna, length_dependent=True).structure_hash
    except InvalidProgramError as error:
        return error.reason


def _swapped(subprogram: Subprogram, rng: np.random.Generator) -> Subprogram:
    def swap(step: Instruction) -> Instruction:
        commutes = step.op in OPS and OPS[step.op].commutative and rng.integers(2)
        return replace(step, in1=step.in2, in2=step.in1) if commutes else step

    return Subprogram(subprogram.name, tuple(map(swap, subprogram.instructions)))


def _shuffled(subprogram: Subprogram, rng: np.random.Generator) -> Subprogram:
    """The instructions in another order in which each follows what it reads; the output stays last."""
    steps = subprogram.instructions
    place: dict[int, int] = {0: 0, 1: 1}
    order: list[int] = []
    while len(order) < len(steps):
        ready = [k for k, step in enumerate(steps) if k + 2 not in place and {step.in1, step.in2} <= place.keys()]
        ready = [k for k in ready if k < len(steps) - 1] or ready
        chosen = ready[rng.integers(len(ready))]
        place[chosen + 2] = len(order) + 2
        order.append(chosen)
    moved = (replace(steps[k], in1=place[steps[k].in1], in2=place[steps[k].in2]) for k in order)
    return Subprogram(subprogram.name, tuple(moved))


# --- identity: what must change it --------------------------------------------------------------------------------

DIFFERENT = {
    "a constant": ("a = MAX h0 constant=zero", "a = MAX h0 constant=half"),
    "a dimension": (
        "a = CONV_1X1 h0 width=16\nb = CONV_1X1 a width=8",
        "a = CONV_1X1 h0 width=32\nb = CONV_1X1 a width=8",
    ),
    "an op": ("a = SIN h0", "a = COS h0"),
    "the operands' order in a difference": ("a = SIN h0\nb = DIFFERENCE a h0", "a = SIN h0\nb = DIFFERENCE h0 a"),
    "sharing a projection": (
        "k = CONV_1X1 h0 width=8\ns = T_MAT_MUL k k\nm = MASK s\no = MAT_MUL m h0",
        "k = CONV_1X1 h0 width=8\nl = CONV_1X1 h0 width=8\ns = T_MAT_MUL k l\nm = MASK s\no = MAT_MUL m h0",
    ),
    "sharing a scaled projection": (
        "k = CONV_1X1 h0 width=8\na = SCALE k\nb = SCALE k\nc = MULTIPLY a b",
        "k = CONV_1X1 h0 width=8\na = SCALE k\nc = MULTIPLY a a",
    ),
    "where a value is shared": (
        "p = CONV_1X1 h0 width=8\nq = CONV_1X1 h0 width=8\na = SIN p\nb = COS p\nc = ADD a b\nd = ADD c q",
        "p = CONV_1X1 h0 width=8\nq = CONV_1X1 h0 width=8\na = SIN p\nb = COS q\nc = ADD a b\nd = ADD c q",
    ),
    "the number of branches": (
        {"main": "a = f h0 branches=2", "f": "x = CONV_1X1 h0 width=8\ny = CONV_1X1 x width=8"},
        {"main": "a = f h0 branches=4", "f": "x = CONV_1X1 h0 width=8\ny = CONV_1X1 x width=8"},
    ),
    "what a branch divides": (
        {"main": "a = f h0 branches=2", "f": "x = CONV_1X1 h0 width=16\ny = CONV_1X1 x width=8"},
        {"main": "a = f h0 branches=2", "f": "x = CONV_1X1 h0 width=8\ny = CONV_1X1 x width=8"},
    ),
    "what stands inside the branches": (
        {"main": "p = CONV_1X1 h0 width=8\na = f p branches=2", "f": "x = SCALE h0"},
        {"main": "a = f h0 branches=2", "f": "p = CONV_1X1 h0 width=16\nx = SCALE p"},
    ),
    "one scope for two": (
        {"main": "a = f h0 branches=2", "f": "x = CONV_1X1 h0 width=8\ny = CONV_1X1 h0 width=8\nz = MULTIPLY x y"},
        "x = CONV_1X1 h0 width=8\ny = CONV_1X1 h0 width=8\nz = MULTIPLY x y",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", DIFFERENT)
def test_identity_depends_on(what: str) -> None:
    one, other = DIFFERENT[what]
    assert identity(one) != identity(other)


def test_library_programs_have_identities_of_their_own() -> None:
    hashes = {build_graph(library.get(name)).structure_hash for name in library.names()}
    assert len(hashes) == len(library.names())


def test_a_constant_that_only_dead_code_reads_is_no_part_of_the_identity() -> None:
    assert -0.57 in library.PRIMER.constants
    changed = tuple(9.0 if constant == -0.57 else constant for constant in library.PRIMER.constants)
    dna = replace(library.PRIMER, constants=changed)
    assert build_graph(dna).structure_hash == build_graph(library.PRIMER).structure_hash


# --- kinds and widths ---------------------------------------------------------------------------------------------

REFUSED = {
    "activations where scores are needed": ("o = MAT_MUL h0 h0", "kinds"),
    "scores where activations are needed": ("s = T_MAT_MUL h0 h0\no = T_MAT_MUL s h0", "kinds"),
    "a sum of scores and an activation": ("s = T_MAT_MUL h0 h0\no = ADD s h0", "kinds"),
    "scores as the output": ("s = T_MAT_MUL h0 h0", "kinds"),
    "branches of scores": ("s = T_MAT_MUL h0 h0 branches=2\no = MAT_MUL s h0", "kinds"),
    "branches of a scalar": ("m = RED_MEAN h0 branches=2\no = ADD m h0", "kinds"),
    "a dense layer over keys": ("s = T_MAT_MUL h0 h0\no = CONV_1X1 s width=8", "length_dependent"),
    "a mean over keys": ("s = T_MAT_MUL h0 h0\nm = RED_MEAN s\no = ADD m h0", "length_dependent"),
    "a scale of keys": ("s = T_MAT_MUL h0 h0\nt = SCALE s\no = MAT_MUL t h0", "length_dependent"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refuses(what: str) -> None:
    text, reason = REFUSED[what]
    with pytest.raises(
        InvalidProgramError, match=r"subprogram 0 \(main\), instruction \d|output of the block"
    ) as caught:
        graph_of(text)
    assert caught.value.reason == reason


@pytest.mark.parametrize("what", [what for what, (_, reason) in REFUSED.items() if reason == "length_dependent"])
def test_length_dependence_is_allowed_where_a_program_or_a_configuration_says_so(what: str) -> None:
    dna = assemble({"main": REFUSED[what][0]}, CONSTANTS, WIDTHS)
    assert build_graph(dna, length_dependent=True).length_dependent
    assert build_graph(replace(dna, length_dependent=True)).length_dependent


def test_a_refusal_names_the_innermost_instruction() -> None:
    with pytest.raises(InvalidProgramError, match=r"subprogram 2 \(g\), instruction 1 \(MAT_MUL\)"):
        graph_of({"main": "a = f h0", "f": "a = g h0", "g": "a = SIN h0\nb = MAT_MUL a a"})


@pytest.mark.parametrize(
    ("text", "repairs"),
    [
        ("w = CONV_1X1 h0 width=32\no = ADD w h0", 1),
        ("m = RED_MEAN h0\no = ADD m h0", 0),
        ("m = RED_MEAN h0\no = ADD m m", 1),
        ("m = RED_MEAN h0\ns = T_MAT_MUL m h0\nt = MASK s\no = MAT_MUL t h0", 1),
        ("w = CONV_1X1 h0 width=32\ns = T_MAT_MUL h0 w\nt = MASK s\no = MAT_MUL t h0", 1),
        ("w = CONV_1X1 h0 width=32", 1),
        ("w = SIN h0", 0),
    ],
)
def test_unequal_widths_are_repaired(text: str, repairs: int) -> None:
    graph = graph_of(text)
    found = [n for n in graph.nodes if n.op == "CONV_1X1" and n.path and isinstance(n.path[-1], str)]
    if "ADD w h0" in text:  # the sum may come out 32 wide, and is then resized once more
        assert len(found) in (1, 2)
    else:
        assert len(found) == repairs
    assert graph.nodes[-1].value == graph.nodes[0].value


def test_which_operand_is_resized_does_not_depend_on_its_place() -> None:
    lines = "w = CONV_1X1 h0 width=32\no = ADD {}"
    assert identity(lines.format("w h0")) == identity(lines.format("h0 w"))


def test_the_graph_is_in_post_order_from_its_output(rng: np.random.Generator) -> None:
    for dna in [library.get(name) for name in library.names()] + mutants(rng, n=20):
        try:
            graph = build_graph(dna, length_dependent=True)
        except InvalidProgramError:
            continue
        used = {operand for node in graph.nodes for operand in node.inputs}
        assert all(operand < index for index, node in enumerate(graph.nodes) for operand in node.inputs)
        assert used == set(range(len(graph.nodes) - 1))


def test_exchanging_relu_changes_nothing_else() -> None:
    ops: Callable[[DNA], list[str]] = lambda dna: sorted(node.op for node in build_graph(dna).nodes)  # noqa: E731
    squared = ops(library.TRANSFORMER_SQUARED_RELU)
    squared.remove("SQUARE")
    assert squared == ops(library.TRANSFORMER)
    replaced = replace_subprogram({"main": "a = relu h0", "relu": "y = ABS h0"}, "relu", "sine", "y = SIN h0")
    assert replaced["main"] == "a = sine h0"
