"""Exported blocks in both APIs: equivalence with the program, and use in Flax."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

from primer_search.models.block import compile_block
from primer_search.models.export import (
    API,
    ExportedSource,
    export_source,
    parameter_placements,
    verified_export,
    verify_export,
)
from primer_search.models.export.exported_module import load_source
from primer_search.primitives import DNA, UsageError, WorkFailedError, build_graph
from primer_search.primitives.programs import library
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.library import LIBRARY, PRIMER, PRIMER_EZ, TRANSFORMER
from primer_search.tests.support.exported_programs import (
    APIS,
    ATTENTION,
    LENGTH,
    UNIT,
    in_both_apis,
    small_program,
    source_of,
    valid_programs,
)

WIDTH = 8 * UNIT

MUTANTS = valid_programs(0, 3, mutate=True)
RANDOM = valid_programs(1, 3, mutate=False)


def check(dna: DNA, api: API, rendered: ExportedSource | None = None) -> None:
    verify_export(rendered or source_of(dna, api=api))


def block_of(dna: DNA, width: int = WIDTH, **options: object) -> Any:
    tied = {"length": LENGTH} if build_graph(dna, length_dependent=True).length_dependent else {}
    return load_source(source_of(dna).source)(width, **tied, **options, rngs=nnx.Rngs(0))


# --- equivalence -------------------------------------------------------------------------------------------


@in_both_apis("name", LIBRARY, quick=("TRANSFORMER", "PRIMER_EZ", "PRIMER", "TRANSFORMER_MESA"))
def test_an_exported_library_program_equals_the_compiled_one_and_decodes(name: str, api: API) -> None:
    # Predictions of a mesa layer are small: the guard of Flax's RMS norm shows, and exports have the program's own
    exported = export_source(
        library.get(name, UNIT), name="Block", unit=UNIT, length=LENGTH, length_dependent=True, api=api,
        flax_norms="MESA" not in name,
    )  # fmt: skip
    verify_export(exported)


@in_both_apis("dna", [*MUTANTS, *RANDOM], quick=MUTANTS)
def test_an_exported_random_program_equals_the_compiled_one_and_decodes(dna: DNA, api: API) -> None:
    check(dna, api)


def test_a_block_exported_at_one_width_equals_the_program_at_another() -> None:
    check(PRIMER_EZ, "nnx", source_of(PRIMER_EZ, unit=4 * UNIT))


@APIS
def test_nested_branches_and_branched_convolutions_are_exported(api: API) -> None:
    dna = small_program(
        "outer = twice h0 branches=2\nmixed = CONV_1X1 outer width=8\nsum = ADD mixed h0",
        twice="a = CONV_3X1 h0 width=8\nb = inner a branches=2\nc = SHIFT b branches=2\nd = CONV_3X1 a width=8\n"
        "e = CONV_1X1 c width=8\nf = ADD e d",
        inner="k = CONV_1X1 h0 width=8\nq = CONV_3X1 h0 width=8\nqk = T_MAT_MUL q k\ne = EXP qk\nm = MASK e\n"
        "s = RED_SUM m\nw = DIVIDE m s\nr = MAT_MUL w q\ng = MULTIPLY r h0",
    )
    rendered = source_of(dna, api=api)
    assert ".Einsum(" in rendered.source and "CausalConv(" in rendered.source
    check(dna, api, rendered)


OUTSIDE_A_SOFTMAX = {
    "scores times scores": "s = T_MAT_MUL h0 h0\nm = MASK s\nt = MAT_MUL m s\nn = MASK t\ny = MAT_MUL n h0",
    "running sum of scores": "s = T_MAT_MUL h0 h0\nm = MASK s\nc = CUM_SUM m\nn = MASK c\ny = MAT_MUL n h0",
    "convolved scores": "s = T_MAT_MUL h0 h0\nm = MASK s\nc = DCONV_3X1 m\nn = MASK c\ny = MAT_MUL n h0",
    "tied to a length": "s = T_MAT_MUL h0 h0\nm = MASK s\na = SCALE m\nb = RED_MEAN a\nc = MULTIPLY b h0\n"
    "d = CONV_1X1 m width=8\ny = ADD c d",
    "scalars of scores": "s = T_MAT_MUL h0 h0\nm = MASK s\nr = RED_SUM m\nc = CUM_SUM r\nd = MULTIPLY c h0\n"
    "e = CUM_PROD d\ny = ADD e h0",
}
"""Programs that use scores other than as the weights of a softmax."""


@in_both_apis("kind", OUTSIDE_A_SOFTMAX, quick=("scores times scores", "tied to a length"))
def test_scores_outside_a_softmax_are_exported_and_decode(kind: str, api: API) -> None:
    main = OUTSIDE_A_SOFTMAX[kind]
    check(small_program(main), api)
    inside = small_program(
        "heads = f h0 branches=2\nb = CONV_1X1 heads width=8",
        f=f"h = CONV_1X1 h0 width=8\n{main}".replace(" h0 h0", " h h")
        .replace(" h0\n", " h\n")
        .replace("y = MAT_MUL n h0", "y = MAT_MUL n h"),
    )
    check(inside, api)


@APIS
def test_norms_are_guarded_as_in_the_program_if_flaxs_would_differ(api: API) -> None:
    dna = small_program(
        "t = C_MUL h0 constant=tiny\nn = norm t\ny = ADD n h0",
        norm="m = RED_MEAN h0\nc = DIFFERENCE h0 m\ns = SQUARE c\nv = RED_MEAN s\nr = ABS_ROOT v\nd = DIVIDE c r\n"
        "e = SCALE d\nf = SHIFT e",
        constants={"tiny": 1e-7},
    )
    assert "LayerNorm" in source_of(dna, api=api).source
    rendered = verified_export(dna, name="Block", unit=UNIT, length=LENGTH, api=api)
    assert "GuardedNorm" in rendered.source and "LayerNorm" not in rendered.source
    assert rendered.placements == parameter_placements(dna, UNIT, LENGTH)


@APIS
def test_the_most_steps_of_conjugate_gradients_are_a_constant_of_the_file(api: API) -> None:
    dna = small_program("a = CONV_1X1 h0 width=8\nb = CONV_1X1 h0 width=8\ny = LEAST_SQUARES a b")
    exported = verified_export(dna, name="Block", unit=UNIT, length=LENGTH, api=api, solve_steps=2)
    assert "\nSOLVE_STEPS = 2\n" in exported.source  # too few to solve, so a run with another number is told apart
    assert "SOLVE_STEPS = 256" in source_of(dna, api=api).source


@pytest.mark.slow
@APIS
@pytest.mark.parametrize("seed", range(50))
def test_500_exported_programs_equal_the_compiled_ones(seed: int, api: API) -> None:
    for dna in [*valid_programs(100 + seed, 5, mutate=True), *valid_programs(200 + seed, 5, mutate=False)]:
        check(dna, api)


@APIS
@pytest.mark.parametrize(
    ("was", "becomes", "fault"),
    [
        ("scores * 0.125", "scores * 0.25", "differs"),
        (", where=causal_mask(scaled, start, visibility)", "", "differs|earlier output"),
        ("own = query if start is None else start + query", "own = query", "decoded"),
        (".zeros", ".ones", "another initial"),
        ("self.output_projection = ", "self.another_projection = ", "object has no attribute|parameters differ"),
    ],
)
def test_source_that_differs_from_the_program_is_refused(was: str, becomes: str, fault: str, api: API) -> None:
    rendered = source_of(ATTENTION, api=api)
    source = rendered.source
    assert was in source
    with pytest.raises((WorkFailedError, AttributeError), match=fault):
        check(ATTENTION, api, replace(rendered, source=source.replace(was, becomes)))


def test_a_module_that_sees_the_future_is_refused_even_if_the_program_does() -> None:
    dna = assemble({"main": "s = T_MAT_MUL h0 h0\nv = MAT_MUL s h0"}, {"zero": 0.0}, (8,))
    with pytest.raises(WorkFailedError, match=r"earlier output|decoded"):
        verify_export(source_of(dna))


def test_placements_name_each_parameter_of_the_program_once_and_are_the_same_in_both_apis() -> None:
    where = parameter_placements(PRIMER, UNIT, LENGTH)
    specs = compile_block(build_graph(PRIMER), UNIT, LENGTH).specs
    assert [placement.name for placement in where] == [spec.name for spec in specs]
    assert len({placement.path for placement in where}) == len(where)
    assert source_of(PRIMER, api="linen").placements == where


def test_a_block_with_another_number_of_heads_is_the_program_with_that_many_branches() -> None:
    """The exported Transformer with 4 heads is the program whose call has 4 branches."""
    branches = [
        replace(one, branches=4 if one.branches == 8 else one.branches)
        for one in TRANSFORMER.subprograms[0].instructions
    ]
    four = TRANSFORMER.with_instructions(0, tuple(branches))
    eight = library.get("TRANSFORMER", UNIT)
    constants = tuple((2 * UNIT) ** -0.5 if c == eight.constants[1] else c for c in eight.constants)
    four = replace(four, constants=constants)
    source = source_of(eight).source.replace("heads: int = 8", "heads: int = 4")
    check(four, "nnx", replace(source_of(four), source=source))


def test_dense_kernels_start_with_variance_one_over_fan_in() -> None:
    module = load_source(source_of(ATTENTION).source)(256, rngs=nnx.Rngs(0))
    state = dict(nnx.to_flat_state(nnx.state(module, nnx.Param)))
    assert np.std(state[("attention", "output_projection", "kernel")][...]) == pytest.approx(256**-0.5, rel=0.03)
    assert np.std(state[("attention", "query_projection", "kernel")][...]) == pytest.approx(128**-0.5, rel=0.03)


# --- use ---------------------------------------------------------------------------------------------


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
    with pytest.raises(
        ValueError, match=rf"width must be a multiple of 8 \(heads\), not {width}|number of at least 1, not {width}"
    ):
        block_of(TRANSFORMER, width)
    with pytest.raises(
        ValueError, match=rf"width must be a multiple of 8 \(heads\), not {width}|number of at least 1, not {width}"
    ):
        load_source(source_of(TRANSFORMER, api="linen").source)(width)


@pytest.mark.parametrize("api", ["nnx", "linen"])
@pytest.mark.parametrize("width", [float(WIDTH), str(WIDTH)])
def test_a_width_that_is_no_whole_number_is_refused(width: object, api: API) -> None:
    rngs = {"rngs": nnx.Rngs(0)} if api == "nnx" else {}
    with pytest.raises(ValueError, match=f"width must be a whole number of at least 1, not {width!r}"):
        load_source(source_of(TRANSFORMER, api=api).source)(width, **rngs)
    with pytest.raises(ValueError, match=f"width must be a whole number of at least 1, not {width!r}"):
        load_source(source_of(small_program("y = CUM_SUM h0\nz = SCALE y"), api=api).source)(width, **rngs)


def test_a_list_of_numbers_is_an_input() -> None:
    block, x = block_of(TRANSFORMER), jnp.ones((1, 2, WIDTH))
    np.testing.assert_array_equal(block(x.tolist()), block(x))


@pytest.mark.parametrize("shape", [(WIDTH,), (2, WIDTH), (2, LENGTH, WIDTH + 1)])
def test_an_input_of_the_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"x must be \[batch, length, {WIDTH}\], not"):
        block_of(TRANSFORMER)(jnp.zeros(shape))


def test_decoding_asks_for_its_cache() -> None:
    with pytest.raises(ValueError, match=r"call init_cache\(\(batch, longest, width\)\) before decode=True"):
        block_of(TRANSFORMER)(jnp.zeros((1, 1, WIDTH)), decode=True)
    block = load_source(source_of(TRANSFORMER, api="linen").source)(WIDTH)
    variables = block.init(jax.random.key(0), jnp.zeros((1, LENGTH, WIDTH)))
    with pytest.raises(ValueError, match="needs the cache that init"):
        block.apply(variables, jnp.zeros((1, 1, WIDTH)), decode=True, mutable=["cache"])


def test_decoding_past_the_end_of_the_cache_gives_nan() -> None:
    block = block_of(ATTENTION)
    block.init_cache((1, 2, WIDTH))
    outputs = [block(jnp.ones((1, 1, WIDTH)), decode=True) for _ in range(3)]
    assert [bool(jnp.isnan(output).any()) for output in outputs] == [False, False, True]


def test_a_linen_block_trains_and_works_under_scan_and_remat() -> None:
    block = load_source(source_of(ATTENTION, api="linen").source)

    class Layers(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            class Step(nn.Module):
                @nn.compact
                def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
                    return nn.remat(block)(WIDTH)(x), None

            scanned = nn.scan(Step, variable_axes={"params": 0}, split_rngs={"params": True}, length=2)
            return scanned()(x, None)[0]

    x = jax.random.normal(jax.random.key(0), (2, LENGTH, WIDTH))
    layers = Layers()
    variables = layers.init(jax.random.key(1), x)
    gradients = jax.jit(jax.grad(lambda variables: jnp.sum(jnp.sin(jnp.asarray(layers.apply(variables, x))))))(
        variables
    )
    assert all(np.isfinite(leaf).all() and np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients))


def test_a_length_dependent_block_requires_its_length_and_refuses_others() -> None:
    block = block_of(PRIMER)
    with pytest.raises(ValueError, match="built for length 4, not 5"):
        block(jnp.zeros((1, LENGTH + 1, 8 * UNIT)))
    with pytest.raises(TypeError, match="length"):
        load_source(source_of(PRIMER).source)(8 * UNIT, rngs=nnx.Rngs(0))
    with pytest.raises(UsageError, match="length"):
        export_source(PRIMER, name="Block", unit=UNIT)
