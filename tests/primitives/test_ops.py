"""Every row of the op table keeps what it promises: values, gradients, kinds, laws, and what it sees of time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from primer_search.primitives.ops import OPS, DecodeState, Law, Op, OpSizes, TimeDependence, WidthMatch
from primer_search.primitives.value_types import SCALAR, SCORES, Value, activation, channels

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
    if op.name == "T_MAT_MUL":
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


NASTY: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "random": lambda x, rng: x,
    "zeros": lambda x, rng: np.zeros_like(x),
    "negative zeros": lambda x, rng: -np.zeros_like(x),
    "ties": lambda x, rng: np.sign(x),
    "ties with the constant": lambda x, rng: np.full_like(x, CONSTANT),
    "the guards' edges": lambda x, rng: 1e-6 * np.sign(x),
    "large": lambda x, rng: 40.0 * np.sign(x),
    "some zeros": lambda x, rng: x * (rng.random(x.shape) < 0.5),
    "very small": lambda x, rng: 1e-15 * x,
}
"""Inputs at which guards, ties and overflow would show."""


@CASES
@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
def test_no_guard_hides_what_is_not_a_number(
    op: Op, kinds: tuple[Value, ...], xp: Any, rng: np.random.Generator
) -> None:
    operands, parameters = operands_of(kinds, rng), parameters_of(op, kinds, rng)
    for slot in range(len(operands)):
        broken = [np.full_like(operand, np.nan) if i == slot else operand for i, operand in enumerate(operands)]
        unknown = np.isnan(np.asarray(apply(op, [xp.asarray(operand) for operand in broken], parameters, xp)))
        assert np.all(np.tril(unknown) == np.tril(np.ones_like(unknown)))


@CASES
def test_the_output_has_the_declared_kind_and_width(op: Op, kinds: tuple[Value, ...], rng: np.random.Generator) -> None:
    output = apply(op, operands_of(kinds, rng), parameters_of(op, kinds, rng))
    assert output.shape == (BATCH, LENGTH, channels(result_of(op, kinds), UNIT, LENGTH))


@ROWS
def test_numpy_jax_and_jitted_jax_agree(op: Op, rng: np.random.Generator) -> None:
    kinds = kinds_of(op)[0]
    operands, parameters = operands_of(kinds, rng), parameters_of(op, kinds, rng)
    reference = apply(op, operands, parameters)
    with jax.enable_x64(True):
        arrays = jax.tree.map(jnp.asarray, (operands, parameters))
        eager = apply(op, arrays[0], arrays[1], jnp)
        jitted = jax.jit(lambda x, p: apply(op, x, p, jnp))(*arrays)
        assert eager.dtype == jitted.dtype == reference.dtype == np.float64
        np.testing.assert_allclose(eager, reference, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(jitted, reference, rtol=1e-12, atol=1e-12)


@ROWS
def test_value_and_gradient_are_finite_on_random_and_on_nasty_inputs(op: Op, rng: np.random.Generator) -> None:
    kinds = kinds_of(op)[0]
    operands, parameters = operands_of(kinds, rng), parameters_of(op, kinds, rng)

    def total(operands: list[jax.Array], parameters: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        output = apply(op, operands, parameters, jnp)
        return jnp.mean(output), output

    differentiated = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))
    for nasty, spoil in NASTY.items():
        arguments = jax.tree.map(np.float32, ([spoil(x, rng) for x in operands], parameters))
        (_, output), gradients = differentiated(*arguments)
        assert output.dtype == jnp.float32
        assert np.isfinite(output).all(), nasty
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients)), nasty


@ROWS
def test_bfloat16_stays_bfloat16(op: Op, rng: np.random.Generator) -> None:
    kinds = kinds_of(op)[0]
    arrays = operands_of(kinds, rng), parameters_of(op, kinds, rng)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), arrays)
    assert jax.eval_shape(lambda x, p: apply(op, x, p, jnp), *shapes).dtype == jnp.bfloat16


@ROWS
def test_leading_axes_are_branches(op: Op, rng: np.random.Generator) -> None:
    kinds = kinds_of(op)[0]
    branches = [(operands_of(kinds, rng), parameters_of(op, kinds, rng)) for _ in range(3)]
    one_by_one = np.stack([apply(op, operands, parameters) for operands, parameters in branches])
    operands = [np.stack(column) for column in zip(*(operands for operands, _ in branches), strict=True)]
    # The parameter of a branch meets all of its batch: an axis of size 1.
    parameters = {key: np.stack([p[key] for _, p in branches])[:, None] for key in branches[0][1]}
    np.testing.assert_allclose(apply(op, operands, parameters), one_by_one, rtol=1e-12, atol=1e-12)


# --- laws -------------------------------------------------------------------------------------------------------

LAWS = [(op, law) for op in OPS.values() for law in sorted(op.laws, key=lambda law: law.name)]


@pytest.mark.parametrize(("op", "law"), LAWS, ids=[f"{op.name} {law.name}" for op, law in LAWS])
def test_claimed_laws_hold(op: Op, law: Law, rng: np.random.Generator) -> None:
    for kinds in kinds_of(op):
        operands = operands_of(kinds, rng)
        operands[0][0, 0] = 0.0
        parameters = parameters_of(op, kinds, rng)

        def f(*operands: np.ndarray, parameters: dict[str, np.ndarray] = parameters) -> np.ndarray:
            return apply(op, list(operands), parameters)

        if law is Law.COMMUTATIVE:
            np.testing.assert_array_equal(f(*operands), f(*operands[::-1]))
        elif law is Law.EVEN:
            np.testing.assert_array_equal(f(-operands[0]), f(operands[0]))
        elif law is Law.ODD:
            np.testing.assert_array_equal(f(-operands[0]), -f(operands[0]))
        elif law is Law.IDEMPOTENT:
            np.testing.assert_array_equal(f(f(operands[0])), f(operands[0]))
        elif law is Law.NON_NEGATIVE:
            assert f(10 * operands[0]).min() >= 0
        elif law is Law.KEEPS_SCALARS:
            np.testing.assert_array_equal(f(operands[0][..., :1]), operands[0][..., :1])
        else:
            assert law is Law.ZERO_NEUTRAL
            padded = np.concatenate([operands[0], np.zeros((BATCH, LENGTH, 3))], axis=-1)
            np.testing.assert_allclose(f(padded), f(operands[0]), rtol=1e-12)


def test_every_law_is_claimed_by_some_op() -> None:
    assert {law for _, law in LAWS} == set(Law)


# --- time -------------------------------------------------------------------------------------------------------


def moved_rows(op: Op, kinds: tuple[Value, ...], changed: Operands, operands: Operands, seed: int) -> list[int]:
    """Positions (of the length axis) whose output differs between two sets of operands."""
    parameters = parameters_of(op, kinds, np.random.default_rng(seed))
    difference = np.abs(apply(op, changed, parameters) - apply(op, operands, parameters))
    return [position for position in range(LENGTH) if difference[:, position].max() > 1e-9]


@pytest.mark.parametrize(
    "op",
    [op for op in OPS.values() if op.time_dependence in (TimeDependence.POINTWISE, TimeDependence.PAST)],
    ids=lambda op: op.name,
)
def test_ops_that_claim_not_to_see_the_future_do_not(op: Op, rng: np.random.Generator) -> None:
    kinds = kinds_of(op)[0]
    operands = operands_of(kinds, rng)
    cut = 3
    changed = [np.where(np.arange(LENGTH)[None, :, None] == cut, -0.3 - x, x) for x in operands]
    moved = moved_rows(op, kinds, changed, operands, 0)
    assert moved[0] == cut
    assert (len(moved) == 1) == (op.time_dependence is TimeDependence.POINTWISE)


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


@pytest.mark.parametrize(
    "op", [op for op in OPS.values() if op.time_dependence is TimeDependence.REDUCES], ids=lambda op: op.name
)
def test_reductions_of_activations_stay_at_their_position(op: Op, rng: np.random.Generator) -> None:
    kinds = (activation(8),)
    operands = operands_of(kinds, rng)
    changed = [np.where(np.arange(LENGTH)[None, :, None] == 2, -0.3 - operands[0], operands[0])]
    assert moved_rows(op, kinds, changed, operands, 0) == [2]


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


def streamed(op: Op, operands: Operands, parameters: dict[str, np.ndarray], size: int) -> np.ndarray:
    """The output, a few positions at a time, from those and what the row says is kept of the earlier ones."""
    width = (
        apply(op, operands, parameters).shape[-1] if op.decode_state is DecodeState.OUTPUT else operands[0].shape[-1]
    )
    rows = {DecodeState.INPUTS: op.kernel - 1, DecodeState.OUTPUT: 1}.get(op.decode_state, 0)
    kept = np.full((BATCH, rows, width), op.before_start)
    outputs = []
    for start in range(0, LENGTH, size):
        new = [operand[:, start : start + size] for operand in operands]
        if op.decode_state is DecodeState.SECOND:
            new[1] = operands[1]
        elif rows:
            new[0] = np.concatenate([kept, new[0]], axis=1)
        output = apply(op, new, parameters)
        if rows:
            kept = (new[0] if op.decode_state is DecodeState.INPUTS else output)[:, -rows:]
        outputs.append(output[:, rows:])
    return np.concatenate(outputs, axis=1)


# A MASK must be told where its rows start (see test_decoding.py).
@cases(op for op in OPS.values() if op.time_dependence is not TimeDependence.MASKS)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_what_a_row_keeps_is_enough_to_go_on(
    op: Op, kinds: tuple[Value, ...], size: int, rng: np.random.Generator
) -> None:
    operands, parameters = operands_of(kinds, rng), parameters_of(op, kinds, rng)
    whole = apply(op, operands, parameters)
    np.testing.assert_allclose(streamed(op, operands, parameters, size), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "op", [op for op in OPS.values() if op.decode_state is not DecodeState.NOTHING], ids=lambda op: op.name
)
def test_a_row_keeps_nothing_without_need(op: Op, rng: np.random.Generator) -> None:
    kinds = kinds_of(op)[0]
    operands, parameters = operands_of(kinds, rng), parameters_of(op, kinds, rng)
    forgetful = apply(op, [operands[0][:, 3:], *operands[1:]], parameters)
    if op.decode_state is DecodeState.SECOND:
        forgetful = apply(op, [operands[0], np.where(np.arange(LENGTH)[:, None] < 3, 0, operands[1])], parameters)[
            :, 3:
        ]
    assert np.abs(forgetful - apply(op, operands, parameters)[:, 3:]).max() > 1e-3


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


def test_the_table_holds_the_paper_s_39_primitives() -> None:
    assert len(OPS) == 39
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
