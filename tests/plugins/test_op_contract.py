"""Ops of plugins keep the contract of built-in ones, and one that breaks it is refused with the promise it breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from primer_search.models.export.export_program import verified_export
from primer_search.plugins import (
    DecodeState,
    Init,
    Law,
    Op,
    Parameter,
    TimeDependence,
    broadcast_shape,
    primitive,
    reduce_shape,
)
from primer_search.plugins.op_contract import BrokenContractError, check_arrays, check_row
from primer_search.plugins.program_contract import check_mutation
from primer_search.primitives.causality.causality_proof import prove_causal
from primer_search.primitives.errors import InvalidProgramError, UsageError
from primer_search.primitives.graphs.canonical import build_graph
from primer_search.primitives.ops.op_table import OPS
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.library import TRANSFORMER
from primer_search.primitives.programs.program import DNA

# --- functions of ops, which exported files contain -----------------------------------------------------------------


def gate(x, y):
    return x * jax.nn.sigmoid(y)


def gate_reference(x, y):
    return x * 0.5 * (1 + np.tanh(0.5 * y))


def softcap(x, constant):
    return constant * jnp.tanh(x)


def softcap_reference(x, constant):
    return constant * np.tanh(x)


def windowed(x, taps):
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(2, 0), (0, 0)])
    length = x.shape[-2]
    return sum(taps[..., k, None, :] * padded[..., k : k + length, :] for k in range(3))


def windowed_reference(x, taps):
    padded = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(2, 0), (0, 0)])
    return sum(taps[..., k, None, :] * padded[..., k : k + x.shape[-2], :] for k in range(3))


def running_maximum(x):
    return jax.lax.associative_scan(jnp.maximum, x, axis=x.ndim - 2)


def running_maximum_reference(x):
    return np.maximum.accumulate(x, axis=-2)


def span(x):
    return jnp.max(x, axis=-1, keepdims=True) - jnp.min(x, axis=-1, keepdims=True)


def span_reference(x):
    return np.max(x, axis=-1, keepdims=True) - np.min(x, axis=-1, keepdims=True)


def normalized(x):
    return x / (1 + jnp.abs(x).sum(axis=-1, keepdims=True))


def normalized_reference(x):
    return x / (1 + np.abs(x).sum(axis=-1, keepdims=True))


def distances(x, y):
    return -jnp.abs(x[..., :, None, :] - y[..., None, :, :]).sum(-1)


def distances_reference(x, y):
    return -np.abs(x[..., :, None, :] - y[..., None, :, :]).sum(-1)


def shares(scores, values, constant):
    return scores @ values / (constant + jnp.abs(scores).sum(axis=-1, keepdims=True))


def shares_reference(scores, values, constant):
    return scores @ values / (constant + np.abs(scores).sum(axis=-1, keepdims=True))


def op(forward: Callable[..., Any], reference: Callable[..., Any], name: str = "OWN", **fields: Any) -> Op:
    return primitive(
        name, "an op of a test", forward, reference, **({"flops": lambda s: 1.0, "family": "function"} | fields)
    )


PAST, REDUCES, PAIRS, MIXES, MASKS = (
    *(TimeDependence.PAST, TimeDependence.REDUCES),
    *(TimeDependence.PAIRS, TimeDependence.MIXES, TimeDependence.MASKS),
)
TAPS = Parameter("taps", ("kernel", "in"), Init.FAN_IN)
GOOD = {
    "GATE": op(gate, gate_reference, "GATE", operands=2),
    "SOFTCAP": op(softcap, softcap_reference, "SOFTCAP", uses_constant=True, laws=[Law.ODD]),
    "WINDOW": op(windowed, windowed_reference, "WINDOW", parameters=[TAPS], time_dependence=PAST, kernel=3),
    "RUN_MAX": op(running_maximum, running_maximum_reference, "RUN_MAX", time_dependence=PAST, before_start=-1e30),
    "SPAN": op(span, span_reference, "SPAN", time_dependence=REDUCES, result=reduce_shape, laws=[Law.NON_NEGATIVE]),
    "DISTANCES": op(distances, distances_reference, "DISTANCES", operands=2, time_dependence=PAIRS),
    "SHARES": op(shares, shares_reference, "SHARES", operands=2, time_dependence=MIXES, uses_constant=True),
    "L1_NORM": op(normalized, normalized_reference, "L1_NORM", time_dependence=REDUCES, laws=[Law.ODD]),
}


@pytest.fixture
def rows() -> Iterator[None]:
    """The good ops in the op table."""
    OPS.update(GOOD)
    yield
    for name in GOOD:
        del OPS[name]


@pytest.mark.parametrize("name", GOOD)
def test_ops_that_keep_the_contract_are_accepted(name: str) -> None:
    check_row(GOOD[name])
    check_arrays(GOOD[name])


@pytest.mark.parametrize("api", ["nnx", "linen"])
def test_ops_of_every_kind_are_exported_and_decode(api: Any, rows: None) -> None:
    texts = {
        "main": """
            capped = SOFTCAP h0 constant=half
            seen   = WINDOW capped
            most   = RUN_MAX h0
            gated  = GATE seen most
            wide   = SPAN gated
            scaled = MULTIPLY gated wide
            many   = WINDOW scaled branches=2
            joined = CONV_1X1 many width=8
            inner  = local joined branches=2
            back   = CONV_1X1 inner width=8
            normed = L1_NORM back
            heads  = attention normed branches=2
            passed = CONV_1X1 heads width=8
            output = ADD h0 passed
        """,
        "attention": """
            query   = CONV_1X1 h0 width=8
            key     = CONV_1X1 h0 width=8
            near    = DISTANCES query key
            powers  = EXP near
            weights = MASK powers
            mixed   = SHARES weights h0 constant=half
            other   = SHARES weights key constant=half
            output  = ADD mixed other
        """,
        "local": """
            narrow = CONV_1X1 h0 width=8
            most   = RUN_MAX narrow
            seen   = WINDOW most
            direct = WINDOW h0
            mixed  = CONV_1X1 direct width=8
            output = ADD seen mixed
        """,
    }
    dna = assemble(texts, {"half": 0.5}, (8, 4))
    exported = verified_export(dna, name="Probe", unit=2, length=8, api=api)
    for function in (*("softcap", "windowed", "running_maximum", "gate", "span", "normalized", "distances", "shares"),):
        assert f"def {function}(" in exported.source


# --- what breaks it -------------------------------------------------------------------------------------------------


def rectified(x):
    return jnp.where(x > 0, x, 0)


def rectified_reference(x):
    return np.where(x > 0, x, 0)


def root(x):
    return jnp.sqrt(jnp.abs(x))


def root_reference(x):
    return np.sqrt(np.abs(x))


def halved(x):
    return x[..., ::2]


def shifted_back(x):
    return jnp.roll(x, -1, axis=-2)


def shifted_back_reference(x):
    return np.roll(x, -1, axis=-2)


def placed(x):
    return x * (1 + jnp.arange(x.shape[-2])[:, None])


def placed_reference(x):
    return x * (1 + np.arange(x.shape[-2])[:, None])


def first_branch(x):
    return x + x.reshape(-1, *x.shape[-2:])[0] * 0


def nearest(x, y):
    return jax.nn.softmax(distances(x, y), axis=-1)


def nearest_reference(x, y):
    powers = np.exp(distances_reference(x, y))
    return powers / powers.sum(axis=-1, keepdims=True)


def mean_of_keys(scores, values):
    return scores @ values / scores.shape[-1]


def all_values(scores, values):
    return scores @ values + values.sum(axis=-2, keepdims=True)


def previous_scores(scores, values):
    return (scores + jnp.roll(scores, 1, axis=-2)) @ values


def previous_scores_reference(scores, values):
    return (scores + np.roll(scores, 1, axis=-2)) @ values


def scaled_wrongly(x, taps):
    return x * taps


BROKEN = {
    "another result in JAX": ({"forward": jnp.tanh, "reference": np.sin}, None, "plain `def`"),
    "forward is not the reference": ({"forward": root, "reference": np.abs}, None, "reference: forward and reference"),
    "a gradient that is not finite": ({"forward": root, "reference": root_reference}, None, "gradient: it"),
    "NaN becomes a number": ({"forward": rectified, "reference": rectified_reference}, None, "NaN: an operand of NaN"),
    "another shape": ({"forward": halved, "reference": halved}, None, "shape: its reference returns"),
    "a law that does not hold": ({"forward": gate, "reference": gate_reference, "operands": 2}, [Law.COMMUTATIVE],
                                 "law COMMUTATIVE"),
    "it sees the future": ({"forward": shifted_back, "reference": shifted_back_reference, "time_dependence": PAST,
                                "kernel": 2}, None, "causality: position"),
    "more than the same position": ({"forward": windowed, "reference": windowed_reference, "parameters": [TAPS],
                                         "kernel": 3}, None, "time: it claims"),
    "keys are mixed": ({"forward": normalized, "reference": normalized_reference}, None, "causality: on scores"),
    "a state that is too short": ({"forward": windowed, "reference": windowed_reference, "parameters": [TAPS],
                                       "time_dependence": PAST, "kernel": 3, "decode_state": DecodeState.OUTPUT}, None,
                                  "decoding: 1 positions at a time"),
    "positions are numbered": ({"forward": placed, "reference": placed_reference}, None, "decoding: 1 positions"),
    "a parameter without branches": ({"forward": scaled_wrongly, "reference": scaled_wrongly,
                                          "parameters": [Parameter("taps", ("in",), Init.ONES)]}, None, "branches"),
    "an own mask": ({"forward": gate, "reference": gate_reference, "time_dependence": MASKS}, None,
                        "cannot be MASKS: a mask must know at which position its rows start"),
    "pairs with a parameter": ({"forward": distances, "reference": distances_reference, "operands": 2,
                                    "time_dependence": PAIRS, "parameters": [TAPS]}, None, "takes no parameters"),
    "pairs that give an activation": ({"forward": gate, "reference": gate_reference, "operands": 2,
                                           "time_dependence": PAIRS, "result": broadcast_shape}, None,
                                      "takes two activations and returns scores"),
    "pairs that read every key": ({"forward": nearest, "reference": nearest_reference, "operands": 2,
                                       "time_dependence": PAIRS}, None, "pairs: position 0 of operand 1"),
    "a mixture of scores": ({"forward": all_values, "reference": all_values, "operands": 2, "time_dependence": MIXES,
                                 "result": lambda values, dimension: values[1]}, None, "takes scores and an act"),
    "values without a score": ({"forward": all_values, "reference": all_values, "operands": 2,
                                    "time_dependence": MIXES}, None, "causality: position 1 changes rows"),
    "the number of keys": ({"forward": mean_of_keys, "reference": mean_of_keys, "operands": 2,
                                "time_dependence": MIXES}, None, "mixing: positions with a score of zero"),
    "rows of earlier scores": ({"forward": previous_scores, "reference": previous_scores_reference, "operands": 2,
                                    "time_dependence": MIXES}, None, "mixing: row 0 of the scores"),
    "a name of two words": ({"forward": gate, "reference": gate_reference, "operands": 2, "name": "a gate"}, None,
                            "its name"),
    "no family": ({"forward": gate, "reference": gate_reference, "operands": 2, "family": ""}, None, "its family"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_an_op_that_breaks_the_contract_is_refused_with_the_promise(case: str) -> None:
    fields, laws, words = BROKEN[case]
    with pytest.raises((BrokenContractError, UsageError), match=words):
        made = op(**fields, laws=laws or ())
        check_row(made)
        check_arrays(made)


def test_a_reduction_over_keys_that_returns_scores_is_not_causal(rows: None) -> None:
    text = """
        keys    = CONV_1X1 h0 width=8
        scores  = T_MAT_MUL h0 keys
        own     = L1_NORM scores
        weights = MASK own
        mixed   = MAT_MUL weights keys
        output  = ADD h0 mixed
    """
    graph = build_graph(assemble({"main": text}, {"zero": 0.0}, (8,)), length_dependent=True)
    with pytest.raises(InvalidProgramError, match="sees the future"):
        prove_causal(graph)


def test_mutations_must_return_programs_and_draw_from_their_generator() -> None:
    def never(dna: DNA, rng: np.random.Generator) -> None:
        return None

    def own_source(dna: DNA, rng: np.random.Generator) -> tuple[DNA, str]:
        draw = int(np.random.default_rng().integers(10**9))
        return DNA((float(draw), *dna.constants[1:]), dna.dimensions, dna.subprograms), "Own: another constant"

    def breaks(dna: DNA, rng: np.random.Generator) -> tuple[DNA, str]:
        raise KeyError("no")

    for mutation, words in ((never, "changed none"), (own_source, "only from its generator"), (breaks, "KeyError")):
        with pytest.raises(BrokenContractError, match=words):
            check_mutation(mutation, [TRANSFORMER])
