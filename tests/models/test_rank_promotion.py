"""Blocks are traced where JAX may not add axes: `jax_numpy_rank_promotion` is "raise"."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import primer_search.models as models
import primer_search.models.linen as linen_models
from primer_search.models.block import compile_block
from primer_search.models.export import API
from primer_search.models.export.exported_module import ExportedFunctions, load_source
from primer_search.primitives import build_graph
from primer_search.primitives.causality.packed_texts import packing_fault
from primer_search.primitives.programs import library
from primer_search.tests.support.decoding_edge_cases import EDGE_CASES, edge_case
from primer_search.tests.support.exported_programs import APIS, LENGTH, UNIT, source_of
from primer_search.tests.support.hand_written_blocks import CLASSES, HEADS, TIED

pytestmark = pytest.mark.usefixtures("no_rank_promotion")

WIDTH = 8 * UNIT
X = jnp.ones((2, LENGTH, WIDTH))
IDS = jnp.zeros((2, LENGTH), jnp.int32)
PROGRAMS = {name: library.get(name, UNIT) for name in library.names()} | {name: edge_case(name) for name in EDGE_CASES}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_compiled_and_decodes(name: str) -> None:
    graph = build_graph(PROGRAMS[name], length_dependent=True)
    program = compile_block(graph, UNIT, LENGTH)
    plain = compile_block(graph, UNIT, LENGTH, fused=False)
    parameters = {spec.name: jnp.ones(spec.shape) for spec in program.specs}
    given: dict[str, Any] = {} if packing_fault(graph) else {"segment_ids": IDS}

    def run(x: jax.Array) -> Any:
        cache = program.init_cache(2, LENGTH)
        return plain.apply(parameters, x), program.apply(parameters, x, **given), program.decode(parameters, cache, x)

    jax.eval_shape(run, X)
    jax.eval_shape(jax.grad(lambda p: program.apply(p, X).sum()), parameters)


@APIS
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_exported_and_decodes(name: str, api: API) -> None:
    exported = source_of(PROGRAMS[name], api=api)
    length = LENGTH if exported.graph.length_dependent else None
    functions = ExportedFunctions(load_source(exported.source), api, WIDTH, length)
    given: dict[str, Any] = {} if packing_fault(exported.graph) else {"segment_ids": IDS}

    def run(x: jax.Array) -> Any:
        parameters = functions.initial(LENGTH)
        packed = functions.decode(parameters, x, (LENGTH - 1, 1), **given)
        return functions.apply(parameters, x), packed

    jax.eval_shape(run, X)


@APIS
@pytest.mark.parametrize("name", CLASSES)
def test_a_block_written_by_hand_takes_all_its_arguments(name: str, api: API) -> None:
    settings = {"heads": HEADS, **TIED.get(name, {})}
    given: dict[str, Any] = {"mask": jnp.ones((1, 1, LENGTH, LENGTH), bool), "positions": jnp.arange(LENGTH)}
    given |= {} if name in TIED else {"segment_ids": IDS}

    def run_nnx(x: jax.Array) -> Any:
        block = getattr(models, CLASSES[name])(WIDTH, **settings, rngs=nnx.Rngs(0))
        block.init_cache(x.shape)
        return block(x), block(x, **given), block(x, decode=True, **given)

    def run_linen(x: jax.Array) -> Any:
        block = getattr(linen_models, CLASSES[name])(**settings)
        variables = block.init(jax.random.key(0), x, decode=True)
        plain = block.apply({"params": variables["params"]}, x, **given)
        return plain, block.apply(variables, x, decode=True, mutable=["cache"], **given)

    jax.eval_shape(run_nnx if api == "nnx" else run_linen, X)
