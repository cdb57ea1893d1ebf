"""What a program costs: parameters exactly, floating-point operations as XLA counts them."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from primer_search.models.block import BlockFunctions, compile_block
from primer_search.models.config import ModelConfig
from primer_search.models.language_model import language_model
from primer_search.primitives.errors import InvalidProgramError
from primer_search.primitives.graphs.canonical import build_graph
from primer_search.primitives.graphs.cost import block_cost, model_parameters
from primer_search.primitives.graphs.parameters import parameter_specs
from primer_search.primitives.ops.least_squares import COUNTED_STEPS
from primer_search.primitives.programs import library
from primer_search.primitives.programs.assembler import assemble
from primer_search.tests.support.strategies import mutants

PROGRAMS = pytest.mark.parametrize("name", library.names())
PAPER_LAYERS, PAPER_LENGTH, PAPER_VOCABULARY = 6, 64, 32768


def xla_flops_per_token(block: BlockFunctions, length: int) -> float:
    """What XLA counts for one forward pass of one block, before it optimises for a device."""
    parameters = {spec.name: jax.ShapeDtypeStruct(spec.shape, jnp.float32) for spec in block.specs}
    x = jax.ShapeDtypeStruct((1, length, block.width), jnp.float32)
    analysis = jax.jit(block.apply).lower(parameters, x).cost_analysis()
    assert analysis is not None
    return analysis["flops"] / length


@PROGRAMS
@pytest.mark.parametrize("size", ["the paper's", "a laptop's"])
def test_flops_are_within_five_percent_of_what_xla_counts(
    name: str, size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # XLA counts the body of a loop once: unroll as many steps of conjugate gradients as the cost counts
    monkeypatch.setattr(
        jax.lax,
        "while_loop",
        lambda continues, body, state: functools.reduce(
            lambda s, _: body(s), range(min(COUNTED_STEPS, 2 * state[1].shape[-1])), state
        ),
    )
    unit, length = (library.native_unit(name), PAPER_LENGTH) if size == "the paper's" else (8, 128)
    graph = build_graph(library.get(name, unit))
    counted = xla_flops_per_token(compile_block(graph, unit, length), length)
    assert block_cost(graph, unit, length).flops_per_token == pytest.approx(counted, rel=0.05)


@PROGRAMS
def test_parameters_are_those_of_an_initialised_model(name: str, rng: np.random.Generator) -> None:
    config = ModelConfig(layers=3, unit=8, length=16, vocabulary=300, length_dependent=True)
    graph = build_graph(library.get(name, config.unit))
    cost = block_cost(graph, config.unit, config.length)
    block = compile_block(graph, config.unit, config.length).init(rng)
    model = language_model(graph, config).init(rng)
    assert cost.parameters == sum(leaf.size for leaf in block.values())
    counted = model_parameters(cost.parameters, config.unit, config.layers, config.vocabulary)
    assert counted == sum(leaf.size for leaf in jax.tree.leaves(model))


@PROGRAMS
def test_at_the_paper_s_size_a_model_has_about_35_million_parameters(name: str) -> None:
    unit = library.native_unit(name)
    cost = block_cost(build_graph(library.get(name)), unit, PAPER_LENGTH)
    assert 32e6 <= model_parameters(cost.parameters, unit, PAPER_LAYERS, PAPER_VOCABULARY) <= 38e6


def test_the_transformer_costs_what_the_textbook_says() -> None:
    unit, length = 64, 64
    width = 8 * unit
    cost = block_cost(build_graph(library.TRANSFORMER), unit, length)
    assert cost.parameters == 4 * width**2 + 2 * 4 * width**2 + 4 * width + 4 * width + width
    products = 2 * (12 * width**2 + 2 * length * width)
    assert products < cost.flops_per_token < 1.02 * products


def test_parameters_of_mutants_are_exact(rng: np.random.Generator) -> None:
    counted = 0
    for dna in mutants(rng, library.PRIMER_EZ, 40):
        try:
            graph = build_graph(dna, length_dependent=True)
            cost = block_cost(graph, 16, 10)
        except InvalidProgramError:
            continue
        counted += 1
        assert cost.parameters == sum(leaf.size for leaf in compile_block(graph, 16, 10).init(rng).values())
        assert math.isfinite(cost.flops_per_token) and cost.flops_per_token >= 0
    assert counted >= 10


def test_parameters_grow_with_the_square_of_the_unit_and_not_with_the_length() -> None:
    graph = build_graph(library.TRANSFORMER)
    assert 3.9 < block_cost(graph, 32, 64).parameters / block_cost(graph, 16, 64).parameters < 4
    assert block_cost(graph, 16, 8).parameters == block_cost(graph, 16, 512).parameters


def test_what_no_branch_changes_is_counted_once() -> None:
    def flops(lines: str) -> float:
        dna = assemble({"main": "y = f h0 branches=8", "f": lines}, {"zero": 0.0}, (8,))
        return block_cost(build_graph(dna), 8, 16).flops_per_token

    # Both have the same output width; SIN of the input is the same in every branch, SIN of a projection is not.
    shared = flops("a = SIN h0\nb = CONV_1X1 a width=8") - flops("b = CONV_1X1 h0 width=8")
    own = flops("b = CONV_1X1 h0 width=8\na = SIN b") - flops("b = CONV_1X1 h0 width=8")
    assert shared == own == 64


def test_a_width_that_is_no_whole_number_of_channels_is_refused() -> None:
    dna = assemble({"main": "y = f h0 branches=16", "f": "y = CONV_1X1 h0 width=1"}, {"zero": 0.0}, (1,))
    graph = build_graph(dna)
    assert block_cost(graph, 16, 8).parameters > 0
    with pytest.raises(InvalidProgramError, match="not a whole number") as caught:
        block_cost(graph, 8, 8)
    assert caught.value.reason == "widths"


def test_each_branch_of_a_dense_primitive_is_a_whole_number_of_channels() -> None:
    text = {"main": "y = f h0 branches=8", "f": "y = CONV_1X1 h0 width=2 branches=4"}
    graph = build_graph(assemble(text, {"zero": 0.0}, (2,)))  # 4 branches of 2/8 of a unit each
    assert parameter_specs(graph, unit=4)
    with pytest.raises(InvalidProgramError, match="whole number"):
        parameter_specs(graph, unit=2)
