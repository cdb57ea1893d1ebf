"""What an op of a plugin must keep, as the built-in ones do: each check raises an error that names the broken promise.

The tests of the op table run the same `CHECKS` on the built-in ops. `program_contract` continues with whole programs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np

from ..primitives.errors import InvalidProgramError
from ..primitives.ops import DecodeState, Init, Law, Op, OpSizes, TimeDependence, WidthMatch
from ..primitives.value_types import SCALAR, SCORES, Kind, Value, activation, channels

__all__ = ["CHECKS", "BrokenContractError", "check_arrays", "check_row", "draw_arrays", "operand_kinds"]

BATCH, LENGTH, UNIT, WIDTH = 2, 6, 1, 12
CONSTANT = 0.25
TOLERANCE = 1e-9

Arrays = list[np.ndarray]
Learned = dict[str, np.ndarray]


class BrokenContractError(Exception):
    """A broken promise of the contract. The message is the part after "op X of plugin Y: "."""


def check_row(op: Op) -> None:
    """Check the fields of a row.

    Raises:
        BrokenContractError: a field is not allowed.
    """
    reads_rows = op.time_dependence in (TimeDependence.PAIRS, TimeDependence.MIXES)
    allowed_state = (
        (DecodeState.INPUTS, DecodeState.OUTPUT)
        if _is_past(op)
        else (DecodeState.SECOND if reads_rows else DecodeState.NOTHING,)
    )
    names = [parameter.name for parameter in op.parameters]
    _require(re.fullmatch(r"[A-Z][A-Z0-9_]*", op.name), "its name must be capital letters, digits and underscores")
    _require(op.operands in (1, 2), f"operands must be 1 or 2, not {op.operands}")
    _require(op.summary.strip() and "\n" not in op.summary, "its summary must be one line")
    _require(op.family.strip(), "its family must be named, such as `function`")
    _require(op.definition, "it must be made with `primitive`, which keeps the text of its function for exports")
    _require(
        op.time_dependence is not TimeDependence.MASKS,
        "its time dependence cannot be MASKS: a mask must know at which position its rows start, which decoding and "
        "exports tell the built-in MASK alone; apply MASK after it",
    )
    _require(not _is_past(op) or op.operands == 1, "an op that depends on earlier positions takes one operand")
    _require(not reads_rows or op.operands == 2, "an op that depends on pairs of positions takes two operands")
    _require(
        not reads_rows or not (op.parameters or op.uses_dimension),
        "an op that depends on pairs of positions takes no parameters and no dimension: let dense layers make its "
        "operands",
    )
    _require(op.decode_state in allowed_state, f"with this time dependence, decoding cannot keep {op.decode_state}")
    _require(op.decode_state is not DecodeState.INPUTS or op.kernel > 1, "keeping its last inputs needs kernel > 1")
    _require(all(name.isidentifier() and name.islower() for name in names), "parameters need lower-case identifiers")
    _require(len(set(names)) == len(names) and "constant" not in names, "parameters need different names")
    for parameter in op.parameters:
        _require(parameter.init is not Init.DEPTHWISE, "a parameter must start as FAN_IN, ONES or ZEROS")
        _require(
            parameter.shape and set(parameter.shape) <= {"in", "out", "kernel"},
            f"the shape of {parameter.name} must consist of `in`, `out` and `kernel`",
        )
    flops = op.flops(OpSizes(8, 8, 16, op.kernel))
    _require(isinstance(flops, int | float) and 0 <= flops < float("inf"), f"flops must be a number, not {flops!r}")


def operand_kinds(op: Op) -> list[tuple[Value, ...]]:
    """Return the combinations of operands that an op takes, widths repaired."""
    combinations = product((activation(8), SCALAR, SCORES), repeat=op.operands)
    return [
        kinds
        for kinds in combinations
        if _result(op, kinds) is not None and (op.width_match is not WidthMatch.ALWAYS or len(set(kinds)) == 1)
    ]


def check_arrays(op: Op, seed: int = 0) -> None:
    """Check an op on random arrays: shapes, JAX against NumPy, gradients, NaN, branches, laws, time and decoding.

    Raises:
        BrokenContractError: the op breaks a promise.
    """
    kinds = operand_kinds(op)
    _check_kinds(op, kinds)
    for combination in kinds:
        operands, learned = draw_arrays(op, combination, np.random.default_rng(seed))
        for name, check in CHECKS.items():
            try:
                check(op, combination, operands, learned)
            except BrokenContractError:
                raise
            except Exception as error:  # code of a plugin may raise anything
                where = ", ".join(map(str, combination))
                raise BrokenContractError(f"{name}, on ({where}): {type(error).__name__}: {error}") from error


def draw_arrays(op: Op, kinds: Sequence[Value], rng: np.random.Generator) -> tuple[Arrays, Learned]:
    """Return random operands `[batch, length, width]` and parameters of an op."""
    operands = [rng.standard_normal((BATCH, LENGTH, channels(kind, UNIT, LENGTH))) for kind in kinds]
    return operands, _learned(op, tuple(kinds), rng)


def _check_kinds(op: Op, kinds: Sequence[tuple[Value, ...]]) -> None:
    """Check that an op takes what the proof of causality supposes of its time dependence."""
    if op.time_dependence is TimeDependence.MIXES:
        mixed = [_result(op, combination) for combination in kinds]
        _require((SCORES, activation(8)) in kinds, "it must take scores and an activation; its `result` refuses them")
        _require(
            all(pair[0] is SCORES and pair[1] is not SCORES for pair in kinds) and SCORES not in mixed,
            "an op of MIXES takes scores and an activation and returns an activation: its `result` must refuse others",
        )
        return
    _require((activation(8),) * op.operands in kinds, "it must take activations; its `result` refuses them")
    if op.time_dependence is TimeDependence.PAIRS:
        _require(
            all(_result(op, pair) is SCORES and SCORES not in pair for pair in kinds),
            "an op of PAIRS takes two activations and returns scores: its `result` must refuse others",
        )


# --- the checks -------------------------------------------------------------------------------------------------


def _check_shape(op: Op, kinds: Sequence[Value], operands: Arrays, learned: Learned) -> None:
    result = _result(op, tuple(kinds))
    assert result is not None
    wanted = (BATCH, LENGTH, channels(result, UNIT, LENGTH))
    found = np.shape(_apply(op, operands, learned))
    _require(found == wanted, f"shape: its reference returns {list(found)}, but its row says {list(wanted)}")


def _check_jax(op: Op, kinds: Sequence[Value], operands: Arrays, learned: Learned) -> None:
    """Compare with the reference in float64, and check gradients in float32 and the dtype in bfloat16."""
    import jax
    import jax.numpy as jnp

    reference = np.asarray(_apply(op, operands, learned))
    _require(np.isfinite(reference).all(), "finiteness: its reference is not finite for normal random values")
    with jax.enable_x64(True):
        forward = jax.jit(lambda x, p: _apply(op, x, p, jnp))(operands, learned)
        _require(np.shape(forward) == reference.shape, f"reference: forward returns the shape {list(forward.shape)}")
        worst = float(np.abs(np.asarray(forward) - reference).max()) / max(1.0, float(np.abs(reference).max()))
    _require(worst <= TOLERANCE, f"reference: forward and reference differ by {worst:.2g} for random values")
    single = jax.tree.map(np.float32, (operands, learned))

    def total(operands: Any, learned: Any) -> Any:
        return jnp.mean(_apply(op, operands, learned, jnp))

    differentiate = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))
    for label, spoil in _NASTY.items():
        mean, gradients = differentiate([spoil(x) for x in single[0]], single[1])
        _require(np.isfinite(mean) and mean.dtype == jnp.float32, f"value: it is {mean} ({mean.dtype}) on {label}")
        finite = all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
        _require(finite, f"gradient: it is not finite on {label}")
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), single)
    dtype = jax.eval_shape(lambda x, p: _apply(op, x, p, jnp), *shapes).dtype
    _require(dtype == jnp.bfloat16, f"dtype: bfloat16 becomes {dtype}")


def _check_nan(op: Op, kinds: Sequence[Value], operands: Arrays, learned: Learned) -> None:
    import jax.numpy as jnp

    for slot, xp in product(range(op.operands), (np, jnp)):
        broken = [np.full_like(x, np.nan) if place == slot else x for place, x in enumerate(operands)]
        output = np.asarray(_apply(op, [xp.asarray(x) for x in broken], learned, xp))
        _require(np.isnan(output).all(), "NaN: an operand of NaN gives numbers, which hides overflow (use maximum)")


def _check_branches(op: Op, kinds: Sequence[Value], operands: Arrays, learned: Learned) -> None:
    stacked = [np.stack([x, 2 * x, -x]) for x in operands]
    parameters = {name: np.stack([array, 0.5 * array, array + 0.1]) for name, array in learned.items()}
    together = _apply(op, stacked, {name: array[:, None] for name, array in parameters.items()})
    each = [
        _apply(op, [x[branch] for x in stacked], {name: array[branch] for name, array in parameters.items()})
        for branch in range(3)
    ]
    _require(_close(together, np.stack(each)), "branches: leading axes of operands and parameters change its result")


def _check_laws(op: Op, kinds: Sequence[Value], operands: Arrays, learned: Learned) -> None:
    x = operands[0]

    def f(*values: np.ndarray) -> np.ndarray:
        return _apply(op, list(values), learned)

    laws: dict[Law, Callable[[], bool]] = {
        Law.COMMUTATIVE: lambda: _close(f(*operands), f(*operands[::-1])),
        Law.EVEN: lambda: _close(f(-x), f(x)),
        Law.ODD: lambda: _close(f(-x), -f(x)),
        Law.IDEMPOTENT: lambda: _close(f(f(x)), f(x)),
        Law.NON_NEGATIVE: lambda: bool(f(*(10 * value for value in operands)).min() >= 0),
        Law.ZERO_NEUTRAL: lambda: _close(f(np.concatenate([x, np.zeros((*x.shape[:-1], 3))], axis=-1)), f(x)),
        Law.KEEPS_SCALARS: lambda: x.shape[-1] > 1 or _close(f(x), x),
    }
    for law in sorted(op.laws, key=lambda law: law.name):
        unary = law not in (Law.COMMUTATIVE, Law.NON_NEGATIVE)
        _require(op.operands == (1 if unary else 2) or law is Law.NON_NEGATIVE, f"law {law.name} needs other operands")
        _require(not unary or not op.parameters, f"law {law.name} is for ops without parameters")
        _require(laws[law](), f"law {law.name}, {law.value}, does not hold for random values")


def _check_time(op: Op, kinds: Sequence[Value], operands: Arrays, learned: Learned) -> None:
    """Change one position, and on scores one key: only what the row allows may move."""
    if op.time_dependence is TimeDependence.PAIRS:
        _check_pairs(op, operands, learned)
    elif op.time_dependence is TimeDependence.MIXES:
        _check_mixes(op, operands, learned)
    else:
        _check_positions(op, kinds, operands, learned)


def _check_positions(op: Op, kinds: Sequence[Value], operands: Arrays, learned: Learned) -> None:
    """Check that no output moves at an earlier position, nor at a later one unless the row says PAST."""
    cut, output = 3, _apply(op, operands, learned)
    for at in (cut, LENGTH - 1):
        changed = [np.where(np.arange(LENGTH)[:, None] == at, 1.3 * x + 0.7, x) for x in operands]
        moved = np.abs(_apply(op, changed, learned) - output).max(axis=(0, 2)) > TOLERANCE
        _require(not moved[:at].any(), f"causality: position {at} of its input changes an earlier output")
        _require(_is_past(op) or not moved[at + 1 :].any(), "time: it claims to depend on the same position only")
    result = _result(op, tuple(kinds))
    if result is not None and result.kind is Kind.SCORES and op.time_dependence is not TimeDependence.REDUCES:
        changed = [
            np.where(np.arange(LENGTH) == cut, 1.3 * x + 0.7, x) if kind is SCORES else x
            for x, kind in zip(operands, kinds, strict=True)
        ]
        moved = np.abs(_apply(op, changed, learned) - output).max(axis=(0, 1)) > TOLERANCE
        others = [key for key in range(LENGTH) if key != cut and moved[key]]
        _require(not others, "causality: on scores it mixes keys; let `result` refuse scores, or declare REDUCES")


def _check_pairs(op: Op, operands: Arrays, learned: Learned) -> None:
    """Check that entry (i, j) depends on position i of the first operand and on position j of the second."""
    output, here = _apply(op, operands, learned), np.arange(LENGTH)
    for at, slot in product(range(LENGTH), (0, 1)):
        moved = _moved(op, operands, learned, slot, here[:, None] == at, output)
        others = here[:, None] != at if slot == 0 else here != at
        axis = "row" if slot == 0 else "column"
        _require(not (moved & others).any(), f"pairs: position {at} of operand {slot} changes more than one {axis}")


def _check_mixes(op: Op, operands: Arrays, learned: Learned) -> None:
    """Check that row i depends on row i of the scores, and on values whose score is not zero."""
    scores, values = np.tril(operands[0]), operands[1]
    output, here = _apply(op, [scores, values], learned), np.arange(LENGTH)
    for at in range(LENGTH):
        moved = _moved(op, [scores, values], learned, 0, (here[:, None] == at) & (here <= at), output).any(axis=-1)
        _require(not (moved & (here != at)).any(), f"mixing: row {at} of the scores changes another row")
        moved = _moved(op, [scores, values], learned, 1, here[:, None] == at, output).any(axis=-1)
        _require(not (moved & (here < at)).any(), f"causality: position {at} changes rows that give it a score of zero")
    more = [np.concatenate([scores, 0 * scores[..., :3]], axis=-1), np.concatenate([values, values[:, :3] + 1], axis=1)]
    _require(_close(_apply(op, more, learned), output), "mixing: positions with a score of zero change its result")


def _moved(op: Op, operands: Arrays, learned: Learned, slot: int, where: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return which entries of the output move, in any batch, when an operand changes at some places."""
    changed = [np.where(where, 1.3 * x + 0.7, x) if place == slot else x for place, x in enumerate(operands)]
    return (np.abs(_apply(op, changed, learned) - before) > TOLERANCE).any(axis=0)


def _check_decoding(op: Op, kinds: Sequence[Value], operands: Arrays, learned: Learned) -> None:
    whole = _apply(op, operands, learned)
    for size in (1, 2, 3):
        pieces = np.concatenate(list(_pieces(op, operands, learned, size)), axis=1)
        _require(_close(pieces, whole), f"decoding: {size} positions at a time give another result than all at once")


def _pieces(op: Op, operands: Arrays, learned: Learned, size: int) -> Iterator[np.ndarray]:
    """Yield the output a few positions at a time, from those and what the row says is kept of the earlier ones."""
    keeps_inputs = op.decode_state is DecodeState.INPUTS
    rows = {DecodeState.INPUTS: op.kernel - 1, DecodeState.OUTPUT: 1}.get(op.decode_state, 0)
    before = 0.0 if keeps_inputs else op.before_start
    kept = np.full((BATCH, rows, operands[0].shape[-1]), before)
    for start in range(0, LENGTH, size):
        new = [operand[:, start : start + size] for operand in operands]
        if op.decode_state is DecodeState.SECOND:
            new[1] = operands[1]
        if rows:
            new[0] = np.concatenate([kept, new[0]], axis=1)
        output = _apply(op, new, learned)
        if rows:
            kept = (new[0] if keeps_inputs else output)[:, -rows:]
        yield output[:, rows:]


CHECKS: dict[str, Callable[[Op, Sequence[Value], Arrays, Learned], None]] = {
    "shape": _check_shape,
    "reference": _check_jax,
    "NaN": _check_nan,
    "branches": _check_branches,
    "laws": _check_laws,
    "causality": _check_time,
    "decoding": _check_decoding,
}
"""Checks of an op on arrays: the row, the kinds of its operands, the operands and the parameters."""

_NASTY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
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


# --- values -----------------------------------------------------------------------------------------------------


def _is_past(op: Op) -> bool:
    return op.time_dependence is TimeDependence.PAST


def _result(op: Op, kinds: tuple[Value, ...]) -> Value | None:
    try:
        value = op.result(kinds, Fraction(WIDTH) if op.uses_dimension else None)
    except InvalidProgramError:
        return None
    except Exception as error:  # code of a plugin may raise anything
        raise BrokenContractError(f"its `result` fails with {type(error).__name__}: {error}") from error
    _require(isinstance(value, Value), f"its `result` must return a Value, not {value!r}")
    return value


def _learned(op: Op, kinds: tuple[Value, ...], rng: np.random.Generator) -> Learned:
    result = _result(op, kinds)
    assert result is not None
    sizes = {"in": channels(kinds[0], UNIT, LENGTH), "out": channels(result, UNIT, LENGTH), "kernel": op.kernel}
    return {p.name: rng.standard_normal([sizes[symbol] for symbol in p.shape]) for p in op.parameters}


def _apply(op: Op, operands: Sequence[Any], learned: dict[str, Any], xp: Any = np) -> Any:
    return op.apply(xp, list(operands), learned, CONSTANT if op.uses_constant else None, op.kernel)


def _close(found: np.ndarray, wanted: np.ndarray) -> bool:
    return np.shape(found) == np.shape(wanted) and np.allclose(found, wanted, rtol=TOLERANCE, atol=TOLERANCE)


def _require(holds: Any, promise: str) -> None:
    if not holds:
        raise BrokenContractError(promise)
