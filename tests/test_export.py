"""Exported blocks: what they compute, what they need, how they read."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from primer_search.models.block import compile_block
from primer_search.models.export import Provenance, export_source, parameter_placements, verify_export, write_export
from primer_search.models.export.text import LINE_LENGTH
from primer_search.models.export.verify import load_source
from primer_search.primitives import DNA, InvalidProgramError, UsageError, WorkFailedError, build_graph
from primer_search.primitives.causality import check_block, probe_unit
from primer_search.primitives.library import LIBRARY, PRIMER, TRANSFORMER
from primer_search.primitives.notation import assemble
from primer_search.tests.strategies import mutants, random_dna

ROOT = Path(__file__).parents[1]
LENGTH = 4
UNIT = 2


def source_of(dna: DNA, unit: int = UNIT, name: str = "Block") -> str:
    return export_source(dna, name=name, unit=unit, length=LENGTH, length_dependent=True)


def block_of(dna: DNA, width: int = 8 * UNIT, **options: object) -> nnx.Module:
    tied = {"length": LENGTH} if build_graph(dna, length_dependent=True).length_dependent else {}
    return load_source(source_of(dna))(width, **tied, **options, rngs=nnx.Rngs(0))


def small_program(main: str, width: int = 8, **subprograms: str) -> DNA:
    return assemble({"main": main, **subprograms}, {"half": -0.5, "zero": 0.0}, (width, 4, 16, 8))


def valid_programs(seed: int, count: int, mutate: bool) -> list[DNA]:
    """Programs that the language accepts, no two alike, with more than a node or two."""
    rng = np.random.default_rng(seed)
    found: dict[str, DNA] = {}
    while len(found) < count:
        names = sorted(LIBRARY)
        start = LIBRARY[names[int(rng.integers(len(names)))]].dna
        dna = mutants(rng, start, int(rng.integers(4, 25)))[-1] if mutate else random_dna(rng, branches=(1, 1, 2, 4))
        try:
            graph = build_graph(dna, length_dependent=True)
            if len(graph.nodes) < 6 or probe_unit(graph, UNIT) > UNIT:
                continue
            check_block(graph)
        except InvalidProgramError:
            continue
        found[graph.structure_hash] = dna
    return list(found.values())


MUTANTS = valid_programs(0, 6, mutate=True)
RANDOM = valid_programs(1, 18, mutate=False)

ATTENTION = assemble(
    {
        "main": "heads = attention h0 branches=2\nmixed = CONV_1X1 heads width=8\nsum = ADD mixed h0",
        "attention": "k = CONV_1X1 h0 width=8\nq = CONV_1X1 k width=8\nb = SHIFT q\nqk = T_MAT_MUL b k\n"
        "t = C_MUL qk constant=scale\ne = EXP t\nm = MASK e\ns = RED_SUM m\nw = DIVIDE m s\nr = MAT_MUL w k",
    },
    {"scale": 0.125},
    (8,),
)
"""A small attention with shared keys and values."""


# --- what it computes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LIBRARY)
def test_an_exported_library_program_equals_the_compiled_one_also_at_another_width(name: str) -> None:
    dna = LIBRARY[name].dna
    verify_export(source_of(dna, unit=2 * UNIT), dna, UNIT, LENGTH)


@pytest.mark.parametrize("dna", [*MUTANTS, *RANDOM])
def test_an_exported_random_program_equals_the_compiled_one(dna: DNA) -> None:
    verify_export(source_of(dna), dna, UNIT, LENGTH, length_dependent=True)


def test_nested_branches_and_branched_convolutions_are_exported() -> None:
    dna = small_program(
        "outer = twice h0 branches=2\nmixed = CONV_1X1 outer width=8\nsum = ADD mixed h0",
        twice="a = CONV_3X1 h0 width=8\nb = inner a branches=2\nc = SHIFT b branches=2\nd = CONV_3X1 a width=8\n"
        "e = CONV_1X1 c width=8\nf = ADD e d",
        inner="k = CONV_1X1 h0 width=8\nq = CONV_3X1 h0 width=8\nqk = T_MAT_MUL q k\ne = EXP qk\nm = MASK e\n"
        "s = RED_SUM m\nw = DIVIDE m s\nr = MAT_MUL w q\ng = MULTIPLY r h0",
    )
    source = source_of(dna)
    assert "BranchedLinear(" in source and "BranchedCausalConv(" in source
    verify_export(source, dna, UNIT, LENGTH)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_many_exported_programs_equal_the_compiled_ones(seed: int) -> None:
    for dna in [*valid_programs(100 + seed, 6, mutate=True), *valid_programs(200 + seed, 6, mutate=False)]:
        verify_export(source_of(dna), dna, UNIT, LENGTH, length_dependent=True)


@pytest.mark.parametrize(
    ("was", "becomes", "fault"),
    [
        ("* 0.125", "* 0.25", "differs"),
        ("jnp.tril(", "(", "differs|earlier output moved"),
        ("jnp.zeros(shape", "jnp.ones(shape", "starts"),
        ("self.output_projection = linear(width, width)", "self.output_projection = lambda x: x", "parameters differ"),
    ],
)
def test_source_that_is_not_the_program_is_refused(was: str, becomes: str, fault: str) -> None:
    source = source_of(ATTENTION)
    assert was in source
    with pytest.raises(WorkFailedError, match=fault):
        verify_export(source.replace(was, becomes), ATTENTION, UNIT, LENGTH)


def test_a_module_that_sees_the_future_is_refused_even_if_the_program_does() -> None:
    dna = assemble({"main": "s = T_MAT_MUL h0 h0\nv = MAT_MUL s h0"}, {"zero": 0.0}, (8,))
    with pytest.raises(WorkFailedError, match="an earlier output moved"):
        verify_export(source_of(dna), dna, UNIT, LENGTH)


def test_placements_name_each_parameter_of_the_program_once() -> None:
    where = parameter_placements(PRIMER, UNIT, LENGTH)
    specs = compile_block(build_graph(PRIMER), UNIT, LENGTH).specs
    assert [placement.name for placement in where] == [spec.name for spec in specs]
    assert len({placement.path for placement in where}) == len(where)


def test_dense_kernels_start_with_variance_one_over_fan_in() -> None:
    module = load_source(source_of(ATTENTION))(256, rngs=nnx.Rngs(0))
    state = dict(nnx.to_flat_state(nnx.state(module, nnx.Param)))
    assert np.std(state[("output_projection", "kernel")][...]) == pytest.approx(256**-0.5, rel=0.03)
    assert np.std(state[("query_projection", "kernel")][...]) == pytest.approx(128**-0.5, rel=0.03)


# --- how it is used ---------------------------------------------------------------------------------------------


def test_a_block_trains_under_nnx_transformations() -> None:
    block = block_of(ATTENTION)
    optimizer = nnx.Optimizer(block, optax.adam(1e-2), wrt=nnx.Param)
    x = jax.random.normal(jax.random.key(0), (2, LENGTH, 8 * UNIT))

    @nnx.jit
    def step(block: nnx.Module, optimizer: nnx.Optimizer) -> jax.Array:
        loss, gradients = nnx.value_and_grad(lambda block: jnp.mean(jnp.square(block(x))))(block)
        optimizer.update(block, gradients)
        return loss

    losses = [float(step(block, optimizer)) for _ in range(5)]
    assert np.all(np.isfinite(losses)) and losses[-1] < losses[0]


def test_a_block_computes_in_bfloat16_with_float32_parameters() -> None:
    block = block_of(PRIMER, dtype=jnp.bfloat16)
    exact = block_of(PRIMER)
    x = jax.random.normal(jax.random.key(0), (2, LENGTH, 8 * UNIT))
    y = nnx.jit(lambda block, x: block(x))(block, x)
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(block, nnx.Param))} == {jnp.dtype("float32")}
    np.testing.assert_allclose(y.astype(jnp.float32), nnx.jit(lambda block, x: block(x))(exact, x), atol=0.15)


@pytest.mark.parametrize("width", [0, 4, 12])
def test_a_width_the_program_cannot_have_is_refused(width: int) -> None:
    with pytest.raises(ValueError, match=f"width must be a multiple of 8, not {width}"):
        block_of(TRANSFORMER, width)


def test_a_block_tied_to_a_length_asks_for_it_and_refuses_others() -> None:
    block = block_of(PRIMER)
    with pytest.raises(ValueError, match="built for length 4, not 5"):
        block(jnp.zeros((1, LENGTH + 1, 8 * UNIT)))
    with pytest.raises(TypeError, match="length"):
        load_source(source_of(PRIMER))(8 * UNIT, rngs=nnx.Rngs(0))
    with pytest.raises(UsageError, match="length"):
        export_source(PRIMER, name="Block", unit=UNIT)


def test_the_file_trains_a_step_where_this_package_cannot_be_imported(tmp_path: Path) -> None:
    path = tmp_path / "block.py"
    write_export(path, ATTENTION, name="Attention", unit=UNIT, length=LENGTH)
    code = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "primer_search":
            raise ImportError(name)
sys.meta_path.insert(0, Block())
sys.path.insert(0, {str(tmp_path)!r})
import jax, jax.numpy as jnp, optax
from flax import nnx
from block import Attention
block = Attention({8 * UNIT}, rngs=nnx.Rngs(0))
optimizer = nnx.Optimizer(block, optax.sgd(0.1), wrt=nnx.Param)
x = jnp.ones((1, 3, {8 * UNIT})) + jnp.arange({8 * UNIT})
loss, gradients = nnx.jit(nnx.value_and_grad(lambda block: jnp.mean(block(x) ** 2)))(block)
optimizer.update(block, gradients)
assert jnp.isfinite(loss)
assert not any(name.partition(".")[0] == "primer_search" for name in sys.modules)
"""
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr


# --- how it reads -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dna", [*(program.dna for program in LIBRARY.values()), *MUTANTS, *RANDOM])
def test_the_file_imports_only_jax_flax_and_the_standard_library(dna: DNA) -> None:
    tree = ast.parse(source_of(dna))
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in names} <= {"jax", "flax", "functools"}


def test_the_files_are_formatted_and_pass_the_linter(tmp_path: Path) -> None:
    pytest.importorskip("ruff")
    provenance = Provenance("laptop run", "c12", ("a " * 90, 'says "no" \\ '), 4.2, 4.3, 0.01, setting="x" * 130)
    programs = [*(program.dna for program in LIBRARY.values()), *MUTANTS, *RANDOM]
    for number, dna in enumerate(programs):
        source = export_source(
            dna, name=f"Block{number}", provenance=provenance, unit=UNIT, length=LENGTH, length_dependent=True
        )
        (tmp_path / f"block_{number}.py").write_text(source, encoding="utf-8")
    settings = ["--config", str(ROOT / "pyproject.toml"), "--no-cache", str(tmp_path)]
    for command in (["format", "--diff"], ["check", "--ignore", "E501"]):
        result = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *settings], capture_output=True, text=True, timeout=120
        )
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("dna", [*(program.dna for program in LIBRARY.values()), *MUTANTS, *RANDOM])
def test_no_line_is_longer_than_the_limit(dna: DNA) -> None:
    assert max(map(len, source_of(dna).splitlines())) <= LINE_LENGTH


def test_the_transformer_reads_like_one() -> None:
    source = source_of(TRANSFORMER)
    for line in (
        "self.query_projection = linear(width, width)",
        "self.feed_forward_up = linear(width, 4 * width, use_bias=True)",
        "queries = split_branches(self.query_projection(layer_norm), 8) * 0.125",
        "scores = queries @ jnp.swapaxes(keys, -1, -2)",
        "# Self attention, in 8 branches: [batch, 8, length, width // 8].",
        "feed_forward = self.feed_forward_down(jax.nn.relu(self.feed_forward_up(layer_norm_2)))",
        "return residual + feed_forward",
    ):
        assert line in source


def test_dead_code_and_unused_helpers_are_left_out() -> None:
    dna = small_program("dead = LOG h0\nwide = CONV_31X1 h0 width=16\na = TANH h0")
    source = source_of(dna)
    assert "return jnp.tanh(x)" in source
    assert not any(word in source for word in ("log", "Conv", "EPSILON", "promote_dtype", "functools"))


def test_names_that_python_or_the_file_uses_are_avoided() -> None:
    names = {"jax": "a = CONV_1X1 h0 width=8\nb = TANH a\nc = MULTIPLY a b", "lambda": "a = ABS h0\nb = ADD a h0"}
    lines = [f"v{i} = {name} {'h0' if not i else f'v{i - 1}'}" for i, name in enumerate(names)]
    dna = assemble({"main": "\n".join([*lines, "z = ADD v0 v1"]), **names}, {"zero": 0.0}, (8,))
    renamed = replace(dna, subprograms=(*dna.subprograms[:-1], replace(dna.subprograms[-1], name='Ünï "x" \n\\')))
    for program in (dna, renamed):
        verify_export(source_of(program), program, UNIT, LENGTH)


def test_the_docstring_tells_where_the_block_came_from() -> None:
    provenance = Provenance("monday", "c17", ("changed a constant",), 4.25, 4.5, 0.02, setting="python-stdlib, 60 s")
    text = export_source(TRANSFORMER, name="Best", provenance=provenance, unit=UNIT, length=LENGTH)
    docstring = " ".join((ast.get_docstring(ast.parse(text)) or "").split())
    for part in (
        "c17 of monday", "- changed a constant", "4.2500 nats per token, against 4.5000 of the seed (spread 0.0200)",
        "unconfirmed: one training", "Checked: nothing yet",
    ):  # fmt: skip
        assert part in docstring
    twice = export_source(TRANSFORMER, name="Best", provenance=replace(provenance, trainings=3), unit=UNIT)
    assert "mean of 3 trainings" in twice and "unconfirmed" not in twice


# --- writing ----------------------------------------------------------------------------------------------------


def test_a_file_is_overwritten_only_on_request(tmp_path: Path) -> None:
    path = tmp_path / "block.py"
    dna = small_program("a = TANH h0")
    write_export(path, dna, name="Block", unit=UNIT, length=LENGTH)
    first = path.read_text(encoding="utf-8")
    assert "outputs and all gradients agree" in " ".join(first.split())
    with pytest.raises(UsageError, match="exists"):
        write_export(path, dna, name="Other", unit=UNIT, length=LENGTH)
    assert path.read_text(encoding="utf-8") == first
    write_export(path, dna, name="Other", unit=UNIT, length=LENGTH, overwrite=True)
    assert "class Other(nnx.Module)" in path.read_text(encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["block.py"]


def test_nothing_is_written_where_verification_fails(tmp_path: Path) -> None:
    leaking = assemble({"main": "s = T_MAT_MUL h0 h0\nv = MAT_MUL s h0"}, {"zero": 0.0}, (8,))
    with pytest.raises(WorkFailedError):
        write_export(tmp_path / "block.py", leaking, name="Block", unit=UNIT, length=LENGTH)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["my block", "class", "jnp", "Affine", ""])
def test_a_name_that_cannot_be_the_class_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name the exported class"):
        source_of(TRANSFORMER, name=name)


def test_a_missing_folder_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        write_export(tmp_path / "none" / "block.py", TRANSFORMER, name="Block", unit=UNIT, length=LENGTH)
