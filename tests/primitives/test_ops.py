"""Every row of the op table keeps what it promises: values, gradients, kinds, laws, and what it sees of time."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from primer_search.plugins.op_contract import CHECKS, draw_arrays
from primer_search.primitives.ops.op_table import (
    OPS,
    DecodeState,
    Law,
    Op,
    OpSizes,
    TimeDependence,
    WidthMatch,
)
from primer_search.primitives.ops.value_types import SCALAR, SCORES, Value, activation, channels

BATCH, LENGTH, UNIT = 2, 6, 1
ROWS = pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
CONSTANT = 0.25
OUTPUT_WIDTH = 12

Operands = list[np.ndarray]


def kinds_of(op: Op) -> list[tuple[Value, ...]]:
    """The combinations of operands a row takes, widths repaired."""
    wide = activation(8)
    if op.name == "MAT_MUL":
        return [(SCORES, wide), (SCORES, SCORES), (SCORES, SCALAR)]
    if op.name in ("T_MAT_MUL", "LEAST_SQUARES"):
        return [(wide, wide), (SCALAR, SCALAR)]
    if op.operands == 2:
        return [(wide, wide), (SCORES, SCORES), (SCALAR, wide), (wide, SCALAR), (SCORES, SCALAR), (SCALAR, SCALAR)]
    if op.name == "MASK":  # on anything else the canonical form leaves it out
        return [(SCORES,)]
    return [(wide,), (SCALAR,), (SCORES,)]


def cases(ops: Iterable[Op]) -> pytest.MarkDecorator:
    """Each op with each combination of operands it takes."""
    combinations = [
        pytest.param(op, kinds, id=f"{op.name}({', '.join(map(str, kinds))})") for op in ops for kinds in kinds_of(op)
    ]
    return pytest.mark.parametrize(("op", "kinds"), combinations)


CASES = cases(OPS.values())


def result_of(op: Op, kinds: tuple[Value, ...]) -> Value:
    return op.result(kinds, Fraction(OUTPUT_WIDTH) if op.uses_dimension else None)


def parameters_of(op: Op, kinds: tuple[Value, ...], rng: np.random.Generator) -> dict[str, np.ndarray]:
    symbols = {
        "in": channels(kinds[0], UNIT, LENGTH),
        "out": channels(result_of(op, kinds), UNIT, LENGTH),
        "kernel": op.kernel,
    }
    return {p.name: rng.standard_normal([symbols[symbol] for symbol in p.shape]) for p in op.parameters}


def operands_of(kinds: tuple[Value, ...], rng: np.random.Generator) -> Operands:
    return [rng.standard_normal((BATCH, LENGTH, channels(kind, UNIT, LENGTH))) for kind in kinds]


def apply(op: Op, operands: list[Any], parameters: dict[str, Any], xp: Any = np) -> Any:
    return op.apply(xp, operands, parameters, CONSTANT if op.uses_constant else None, op.kernel)


# --- the contract -----------------------------------------------------------------------------------------------


@CASES
def test_every_row_keeps_the_contract_of_plugins(op: Op, kinds: tuple[Value, ...], rng: np.random.Generator) -> None:
    """Shape, JAX against NumPy, gradients, NaN, branches, laws, causality and decoding, on all operands of a row."""
    left_out = set()
    if kinds != kinds_of(op)[0]:
        left_out.add("reference")  # it compiles, which takes long
    if op.time_dependence is TimeDependence.MASKS:
        left_out |= {"NaN", "causality", "decoding"}  # it must be told where its rows start (see test_decoding.py)
    if kinds == (SCORES, SCORES) and op.time_dependence is TimeDependence.MIXES:
        left_out.add("causality")  # the proof distinguishes four cases of scores times scores
    for name in CHECKS.keys() - left_out:
        CHECKS[name](op, kinds, *draw_arrays(op, kinds, rng))


# --- laws -------------------------------------------------------------------------------------------------------


def test_every_law_is_claimed_by_some_op() -> None:
    assert {law for op in OPS.values() for law in op.laws} == set(Law)


# --- time -------------------------------------------------------------------------------------------------------


def moved_rows(op: Op, kinds: tuple[Value, ...], changed: Operands, operands: Operands, seed: int) -> list[int]:
    """Positions (of the length axis) whose output differs between two sets of operands."""
    parameters = parameters_of(op, kinds, np.random.default_rng(seed))
    difference = np.abs(apply(op, changed, parameters) - apply(op, operands, parameters))
    return [position for position in range(LENGTH) if difference[:, position].max() > 1e-9]


@pytest.mark.parametrize(
    "op",
    [op for op in OPS.values() if op.time_dependence not in (TimeDependence.POINTWISE, TimeDependence.PAST)],
    ids=lambda op: op.name,
)
def test_ops_that_are_marked_otherwise_need_care(op: Op, rng: np.random.Generator) -> None:
    kinds = (SCORES,) if op.time_dependence in (TimeDependence.REDUCES, TimeDependence.MASKS) else kinds_of(op)[0]
    operands = [np.abs(x) for x in operands_of(kinds, rng)]
    if op.time_dependence is TimeDependence.PAIRS:  # a later key changes the scores of earlier queries
        changed = [operands[0], np.where(np.arange(LENGTH)[None, :, None] == LENGTH - 1, 0.0, operands[1])]
    elif op.time_dependence is TimeDependence.MIXES:  # a later value reaches every position whose score is not zero
        changed = [operands[0], np.where(np.arange(LENGTH)[None, :, None] == LENGTH - 1, 9.0, operands[1])]
    else:  # the last key
        changed = [np.where(np.arange(LENGTH) == LENGTH - 1, 9.0 if op.name != "RED_MIN" else -9.0, operands[0])]
    moved = moved_rows(op, kinds, changed, operands, 0)
    assert moved == ([LENGTH - 1] if op.time_dependence is TimeDependence.MASKS else list(range(LENGTH)))


def test_mask_keeps_what_is_not_later_also_what_is_not_a_number(rng: np.random.Generator) -> None:
    x = rng.standard_normal((BATCH, LENGTH, LENGTH))
    x[:, 2, 1] = np.nan
    np.testing.assert_array_equal(apply(OPS["MASK"], [x], {}), np.tril(x))


def test_mask_zeroes_exactly_the_future_keys() -> None:
    output = apply(OPS["MASK"], [np.ones((1, 4, 4))], {})
    np.testing.assert_array_equal(output[0], [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]])


@pytest.mark.parametrize("kernel", [3, 7, 15, 31])
def test_the_last_tap_of_a_convolution_is_the_current_position(kernel: int) -> None:
    x = np.arange(1.0, 41.0)[None, :, None]
    taps = np.zeros((kernel, 1))
    for tap, delay in ((kernel - 1, 0), (0, kernel - 1)):
        only = taps.copy()
        only[tap] = 1.0
        delayed = np.pad(x, ((0, 0), (delay, 0), (0, 0)))[:, :40]
        dense = {"kernel": only[:, :, None]}
        np.testing.assert_array_equal(apply(OPS[f"DCONV_{kernel}X1"], [x], {"kernel": only}), delayed)
        np.testing.assert_array_equal(apply(OPS[f"CONV_{kernel}X1"], [x], dense), delayed)


# --- decoding ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "op", [op for op in OPS.values() if op.decode_state is not DecodeState.NOTHING], ids=lambda op: op.name
)
def test_a_row_keeps_nothing_without_need(op: Op, rng: np.random.Generator) -> None:
    kinds = kinds_of(op)[0]
    operands, parameters = operands_of(kinds, rng), parameters_of(op, kinds, rng)
    forgetful = [operand[:, 3:] for operand in operands]
    if op.decode_state is DecodeState.SECOND:
        forgetful = [operands[0], np.where(np.arange(LENGTH)[:, None] < 3, 0, operands[1])]
    found = apply(op, forgetful, parameters)[:, -3:]
    assert np.abs(found - apply(op, operands, parameters)[:, 3:]).max() > 1e-3


# --- single values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "operands", "expected"),
    [
        ("DIVIDE", (1.0, 0.0), 1e6),
        ("DIVIDE", (1.0, -1e-9), -1e6),
        ("DIVIDE", (0.0, 0.0), 0.0),
        ("DIVIDE", (3.0, -2.0), -1.5),
        ("ABS_ROOT", (-4.0,), 2.0),
        ("ABS_ROOT", (0.0,), 0.0),
        ("LOG", (0.0,), np.log(1e-6)),
        ("LOG", (-np.e,), 1.0),
        ("RECIP", (0.0,), 0.0),
        ("RECIP", (-4.0,), -0.25),
        ("SIGN", (0.0,), 0.0),
        ("SIGMOID", (-1000.0,), 0.0),
        ("MAX", (-3.0,), CONSTANT),
        ("MIN", (-3.0,), -3.0),
        ("C_MUL", (8.0,), 2.0),
    ],
)
def test_single_values(name: str, operands: tuple[float, ...], expected: float) -> None:
    output = apply(OPS[name], [np.full((1, 1, 1), value) for value in operands], {})
    np.testing.assert_allclose(output, np.full((1, 1, 1), expected), rtol=1e-12)


# --- the table --------------------------------------------------------------------------------------------------


def test_the_table_holds_the_paper_s_39_primitives_and_says_which_are_not_its() -> None:
    origins = [op.origin for op in OPS.values()]
    assert origins == ["paper"] * 39 + ["extended"]
    assert all(name == op.name for name, op in OPS.items())


@ROWS
def test_the_source_names_what_the_op_reads(op: Op) -> None:
    placeholders = set(re.findall(r"\{(\w*)\}", op.source))
    expected = {str(operand) for operand in range(op.operands)}
    expected |= {"c"} if op.uses_constant else set()
    expected |= {"p"} if op.parameters else set()
    assert placeholders == expected


@pytest.mark.parametrize("op", [op for op in OPS.values() if "{p}(" not in op.source], ids=lambda op: op.name)
def test_the_source_says_what_apply_does(op: Op, rng: np.random.Generator) -> None:
    kinds = kinds_of(op)[0]
    operands, parameters = operands_of(kinds, rng), parameters_of(op, kinds, rng)
    with jax.enable_x64(True):
        x, y = (jnp.asarray(operands[0]), jnp.asarray(operands[-1]))
        source = op.source.format("x", "y", c=CONSTANT, p="p")
        names = {"jnp": jnp, "jax": jax, "x": x, "y": y, "p": next(iter(parameters.values()), None), **_HELPERS}
        value = eval(source, names)
        np.testing.assert_allclose(value, apply(op, operands, parameters), rtol=1e-12, atol=1e-12)


_HELPERS = {
    "divide": lambda x, y: OPS["DIVIDE"].apply(jnp, [x, y], {}, None, 1),
    "abs_root": lambda x: jnp.sqrt(jnp.abs(x)),
    "log_abs": lambda x: jnp.log(jnp.abs(x)),
    "reciprocal": lambda x: 1 / x,
}
"""The guarded functions that exported source brings along; the inputs here stay off their guards."""


@ROWS
def test_the_row_is_written_for_a_reader(op: Op) -> None:
    assert 0 < len(op.summary) <= 120
    assert op.reference
    assert op.operands in (1, 2)
    assert op.width_match is WidthMatch.FREE or op.operands == 2


@ROWS
def test_a_row_counts_the_work_of_its_output(op: Op) -> None:
    sizes = OpSizes(in_size=8, out_size=16, length=32, kernel=op.kernel)
    twice = OpSizes(in_size=16, out_size=32, length=64, kernel=op.kernel)
    assert 0 < op.flops(sizes) < op.flops(twice)
