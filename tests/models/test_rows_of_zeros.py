"""Zeroed padding: outputs and gradients are finite, in float16 behind segment ids, or float16 is refused."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import primer_search.models as models
from primer_search.models import DNABlock
from primer_search.models.export import export_source
from primer_search.models.export.exported_module import load_source
from primer_search.primitives.programs import library
from primer_search.tests.support.exported_programs import small_program

UNIT, WIDTH, HEADS = 2, 16, 8
IDS = jnp.array([[0, 0, 0, 1, 1, 1]])


def exported(flax_norms: bool, dtype: Any) -> Any:
    """An instance of the export of PRIMER_EZ."""
    source = export_source(library.get("PRIMER_EZ", UNIT), name="Block", unit=UNIT, flax_norms=flax_norms).source
    return load_source(source)(WIDTH, HEADS, dtype=dtype, rngs=nnx.Rngs(0))


def assert_finite(block: Any, dtype: Any, masked: bool, rng: np.random.Generator) -> None:
    """Outputs, and gradients of the input and all parameters, are finite where half of the rows are zeros."""
    x = jnp.asarray(rng.standard_normal((1, 6, WIDTH)), dtype).at[:, :3].set(0)
    graph, parameters, rest = nnx.split(block, nnx.Param, ...)

    def loss(parameters: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = nnx.merge(graph, parameters, rest)(x, **({"segment_ids": IDS} if masked else {}))
        return jnp.sum(jnp.square(y[:, 3 if masked else 0 :].astype(jnp.float32))), y

    gradients, y = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(parameters, x)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves((gradients, y)))


@pytest.mark.parametrize(("dtype", "masked"), [(jnp.float16, True), (jnp.bfloat16, False)], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("by_hand", [True, False], ids=["by hand", "exported"])
def test_zeroed_padding_gives_finite_gradients(
    by_hand: bool, dtype: Any, masked: bool, rng: np.random.Generator
) -> None:
    made = models.PrimerEZBlock(WIDTH, HEADS, dtype=dtype, rngs=nnx.Rngs(0)) if by_hand else exported(True, dtype)
    assert_finite(made, dtype, masked, rng)


def test_dividing_in_float16_is_refused_and_finite_in_bfloat16(rng: np.random.Generator) -> None:
    x = jnp.zeros((1, 6, WIDTH))
    with pytest.raises(ValueError, match=r"float16 is refused: .* use bfloat16"):
        exported(False, jnp.float16)(x)
    assert_finite(exported(False, jnp.bfloat16), jnp.bfloat16, False, rng)
    block = DNABlock(library.get("PRIMER_EZ", UNIT), width=WIDTH, dtype=jnp.float16, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"float16 is refused: .* use bfloat16"):
        block(x)


@pytest.mark.parametrize("by_export", [True, False], ids=["exported", "DNABlock"])
@pytest.mark.parametrize("op", ["LOG", "ABS_ROOT"])
def test_float16_is_refused_only_where_its_gradients_at_zero_are_not_finite(
    op: str, by_export: bool, rng: np.random.Generator
) -> None:
    dna = small_program(f"a = CONV_1X1 h0 width=8\ny = {op} a")

    def made(dtype: Any) -> Any:
        if not by_export:
            return DNABlock(dna, width=WIDTH, dtype=dtype, rngs=nnx.Rngs(0))
        source = export_source(dna, name="Block", unit=UNIT).source
        return load_source(source)(WIDTH, dtype=dtype, rngs=nnx.Rngs(0))

    if op == "LOG":
        with pytest.raises(ValueError, match=r"float16 is refused: .* use bfloat16"):
            made(jnp.float16)(jnp.zeros((1, 6, WIDTH)))
    dtype = jnp.bfloat16 if op == "LOG" else jnp.float16
    assert_finite(made(dtype), dtype, False, rng)
