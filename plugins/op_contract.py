"""Contract of a plugin's op, the same as for built-in ops. Each check raises an error that names the broken promise.

The tests of the op table run the same `CHECKS` on the built-in ops. The checks of the time dependence are in `op_time`,
and the checks of whole programs in `program_contract`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np

from ..primitives.ops.op_table import DecodeState, Init, Law, Op, OpSizes, TimeDependence
from ..primitives.ops.value_types import SCORES, Value, activation, channels
from .op_arrays import (
    BATCH,
    CONSTANT,
    LENGTH,
    TOLERANCE,
    UNIT,
    Arrays,
    BrokenContractError,
    Learned,
    apply_op,
    draw_arrays,
    is_close,
    is_past,
    operand_kinds,
    require,
    result_of,
)
from .op_time import check_decoding, check_time

__all__ = ["CHECKS", "BrokenContractError", "check_arrays", "check_row", "draw_arrays", "operand_kinds"]


def check_row(op: Op) -> None:
    """Check the fields of a plugin's row of the op table.

    Raises:
        BrokenContractError: a field is not allowed.
    """
    reads_rows = op.time_dependence in (TimeDependence.PAIRS, TimeDependence.MIXES)
    allowed_state = (
        (DecodeState.INPUTS, DecodeState.OUTPUT)
        if is_past(op)
        else (DecodeState.SECOND if reads_rows else DecodeState.NOTHING,)
    )
    names = [parameter.name for parameter in op.parameters]
    require(re.fullmatch(r"[A-Z][A-Z0-9_]*", op.name), "its name must be capital letters, digits and underscores")
    require(op.operands in (1, 2), f"operands must be 1 or 2, not {op.operands}")
    require(op.summary.strip() and "\n" not in op.summary, "its summary must be one line")
    require(op.family.strip(), "its family must be named, such as `function`")
    require(op.definition, "it must be made with `primitive`, which keeps the text of its function for exports")
    require(
        op.time_dependence is not TimeDependence.MASKS,
        "its time dependence cannot be MASKS: a mask must know at which position its rows start, but decoding and "
        "exports pass that only to the built-in MASK; apply MASK after the op",
    )
    require(not is_past(op) or op.operands == 1, "an op that depends on earlier positions takes one operand")
    require(not reads_rows or op.operands == 2, "an op that depends on pairs of positions takes two operands")
    require(
        not reads_rows or not (op.parameters or op.uses_dimension),
        "an op that depends on pairs of positions takes no parameters and no dimension: compute its operands by dense "
        "layers",
    )
    require(op.decode_state in allowed_state, f"with this time dependence, decoding cannot keep {op.decode_state}")
    require(op.decode_state is not DecodeState.INPUTS or op.kernel > 1, "keeping its last inputs needs kernel > 1")
    require(all(name.isidentifier() and name.islower() for name in names), "parameters need lower-case identifiers")
    require(len(set(names)) == len(names) and "constant" not in names, "parameters need different names")
    for parameter in op.parameters:
        starts = (Init.FAN_IN, Init.ONES, Init.ZEROS)
        require(parameter.init in starts, "a parameter must start as FAN_IN, ONES or ZEROS")
        require(
            parameter.shape and set(parameter.shape) <= {"in", "out", "kernel"},
            f"the shape of {parameter.name} must consist of `in`, `out` and `kernel`",
        )
    flops = op.flops(OpSizes(8, 8, 16, op.kernel))
    require(isinstance(flops, int | float) and 0 <= flops < float("inf"), f"flops must be a number, not {flops!r}")


def check_arrays(op: Op) -> None:
    """Check an op on random arrays: shapes, JAX against NumPy, gradients, NaN, branches, laws, time and decoding.

    Raises:
        BrokenContractError: the op breaks a promise.
    """
    kinds = operand_kinds(op)
    _check_kinds(op, kinds)
    for combination in kinds:
        operands, learned = draw_arrays(op, combination, np.random.default_rng(0))
        for name, check in CHECKS.items():
            try:
                check(op, combination, operands, learned)
            except BrokenContractError:
                raise
            except Exception as error:  # code of a plugin may raise anything
                where = ", ".join(map(str, combination))
                raise BrokenContractError(f"{name}, on ({where}): {type(error).__name__}: {error}") from error


def _check_kinds(op: Op, kinds: Sequence[tuple[Value, ...]]) -> None:
    """Check that an op takes the kinds of operands that the causality proof assumes for its time dependence."""
    if op.time_dependence is TimeDependence.MIXES:
        mixed = [result_of(op, combination) for combination in kinds]
        require((SCORES, activation(8)) in kinds, "it must take scores and an activation; its `result` refuses them")
        require(
            all(pair[0] is SCORES and pair[1] is not SCORES for pair in kinds) and SCORES not in mixed,
            "an op of MIXES takes scores and an activation and returns an activation: its `result` must refuse others",
        )
        return
    require((activation(8),) * op.operands in kinds, "it must take activations; its `result` refuses them")
    if op.time_dependence is TimeDependence.PAIRS:
        require(
            all(result_of(op, pair) is SCORES and SCORES not in pair for pair in kinds),
            "an op of PAIRS takes two activations and returns scores: its `result` must refuse others",
        )


# --- the checks -------------------------------------------------------------------------------------------------


def _check_shape(op: Op, kinds: Sequence[Value], operands: Arrays, learned: Learned) -> None:
    result = result_of(op, tuple(kinds))
    assert result is not None
    wanted = (BATCH, LENGTH, channels(result, UNIT, LENGTH))
    found = np.shape(apply_op(op, operands, learned))
    require(found == wanted, f"shape: its reference returns {list(found)}, but its row says {list(wanted)}")


def _check_jax(op: Op, kinds: Sequence[Value], operands: Arrays, learned: Learned) -> None:
    """Compare `forward` with `reference` in float64, and check its gradients in float32 and its dtype in bfloat16."""
    import jax
    import jax.numpy as jnp

    reference = np.asarray(apply_op(op, operands, learned))
    require(np.isfinite(reference).all(), "finiteness: its reference is not finite for normal random values")
    with jax.enable_x64(True):
        forward = jax.jit(lambda x, p: apply_op(op, x, p, jnp))(operands, learned)
        require(np.shape(forward) == reference.shape, f"reference: forward returns the shape {list(forward.shape)}")
        worst = float(np.abs(np.asarray(forward) - reference).max()) / max(1.0, float(np.abs(reference).max()))
    require(worst <= TOLERANCE, f"reference: forward and reference differ by {worst:.2g} for random values")
    single = jax.tree.map(np.float32, (operands, learned))

    def total(operands: Any, learned: Any) -> Any:
        return jnp.mean(apply_op(op, operands, learned, jnp))

    differentiate = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))
    for label, edge_case in _EDGE_CASES.items():
        mean, gradients = differentiate([edge_case(x) for x in single[0]], single[1])
        require(np.isfinite(mean) and mean.dtype == jnp.float32, f"value: it is {mean} ({mean.dtype}) on {label}")
        finite = all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
        require(finite, f"gradient: it is not finite on {label}")
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), single)
    dtype = jax.eval_shape(lambda x, p: apply_op(op, x, p, jnp), *shapes).dtype
    require(dtype == jnp.bfloat16, f"dtype: bfloat16 becomes {dtype}")


def _check_nan(op: Op, kinds: Sequence[Value], operands: Arrays, learned: Learned) -> None:
    import jax.numpy as jnp

    for slot, xp in product(range(op.operands), (np, jnp)):
        broken = [np.full_like(x, np.nan) if place == slot else x for place, x in enumerate(operands)]
        output = np.asarray(apply_op(op, [xp.asarray(x) for x in broken], learned, xp))
        require(np.isnan(output).all(), "NaN: an operand of NaN gives numbers, which hides overflow (use maximum)")


def _check_branches(op: Op, kinds: Sequence[Value], operands: Arrays, learned: Learned) -> None:
    stacked = [np.stack([x, 2 * x, -x]) for x in operands]
    parameters = {name: np.stack([array, 0.5 * array, array + 0.1]) for name, array in learned.items()}
    together = apply_op(op, stacked, {name: array[:, None] for name, array in parameters.items()})
    each = [
        apply_op(op, [x[branch] for x in stacked], {name: array[branch] for name, array in parameters.items()})
        for branch in range(3)
    ]
    require(is_close(together, np.stack(each)), "branches: leading axes of operands and parameters change its result")


def _check_laws(op: Op, kinds: Sequence[Value], operands: Arrays, learned: Learned) -> None:
    x = operands[0]

    def f(*values: np.ndarray) -> np.ndarray:
        return apply_op(op, list(values), learned)

    laws: dict[Law, Callable[[], bool]] = {
        Law.COMMUTATIVE: lambda: is_close(f(*operands), f(*operands[::-1])),
        Law.EVEN: lambda: is_close(f(-x), f(x)),
        Law.ODD: lambda: is_close(f(-x), -f(x)),
        Law.IDEMPOTENT: lambda: is_close(f(f(x)), f(x)),
        Law.NON_NEGATIVE: lambda: bool(f(*(10 * value for value in operands)).min() >= 0),
        Law.ZERO_NEUTRAL: lambda: is_close(f(np.concatenate([x, np.zeros((*x.shape[:-1], 3))], axis=-1)), f(x)),
        Law.KEEPS_SCALARS: lambda: x.shape[-1] > 1 or is_close(f(x), x),
    }
    for law in sorted(op.laws, key=lambda law: law.name):
        unary = law not in (Law.COMMUTATIVE, Law.NON_NEGATIVE)
        require(op.operands == (1 if unary else 2) or law is Law.NON_NEGATIVE, f"law {law.name} needs other operands")
        require(not unary or not op.parameters, f"law {law.name} is for ops without parameters")
        require(laws[law](), f"law {law.name}, {law.value}, does not hold for random values")


CHECKS: dict[str, Callable[[Op, Sequence[Value], Arrays, Learned], None]] = {
    "shape": _check_shape,
    "reference": _check_jax,
    "NaN": _check_nan,
    "branches": _check_branches,
    "laws": _check_laws,
    "causality": check_time,
    "decoding": check_decoding,
}
"""Checks of an op on arrays, by name. Arguments: the row, the kinds of its operands, the operands, the parameters."""

_EDGE_CASES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "random values": lambda x: x,
    "zeros": np.zeros_like,
    "negative zeros": lambda x: -np.zeros_like(x),
    "equal values": np.sign,
    "values equal to the constant": lambda x: np.full_like(x, CONSTANT),
    "some zeros": lambda x: np.where(x > 0, x, np.zeros_like(x)),
    "small values": lambda x: np.float32(1e-6) * np.sign(x),
    "tiny values": lambda x: np.float32(1e-15) * x,
    "large values": lambda x: np.float32(40.0) * np.sign(x),
}
