"""Checks of the time dependence of an op (positions, pairs of positions, mixtures of positions) and of its decoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from ..primitives.ops.op_table import DecodeState, Op, TimeDependence
from ..primitives.ops.value_types import SCORES, Kind, Value
from .op_arrays import BATCH, LENGTH, TOLERANCE, Arrays, Learned, apply_op, is_close, is_past, require, result_of

__all__ = ["check_decoding", "check_time"]


def check_time(op: Op, kinds: Sequence[Value], operands: Arrays, learned: Learned) -> None:
    """Check that a change of one position, or of one key of scores, changes only the outputs that the row allows."""
    if op.time_dependence is TimeDependence.PAIRS:
        _check_pairs(op, operands, learned)
    elif op.time_dependence is TimeDependence.MIXES:
        _check_mixes(op, operands, learned)
    else:
        _check_positions(op, kinds, operands, learned)


def _check_positions(op: Op, kinds: Sequence[Value], operands: Arrays, learned: Learned) -> None:
    """Check that a change of one position changes no earlier output, and a later one only if the row says PAST."""
    cut, output = 3, apply_op(op, operands, learned)
    for at in (cut, LENGTH - 1):
        changed = [np.where(np.arange(LENGTH)[:, None] == at, 1.3 * x + 0.7, x) for x in operands]
        moved = np.abs(apply_op(op, changed, learned) - output).max(axis=(0, 2)) > TOLERANCE
        require(not moved[:at].any(), f"causality: position {at} of its input changes an earlier output")
        require(is_past(op) or not moved[at + 1 :].any(), "time: it claims to depend on the same position only")
    result = result_of(op, tuple(kinds))
    if result is not None and result.kind is Kind.SCORES and op.time_dependence is not TimeDependence.REDUCES:
        changed = [
            np.where(np.arange(LENGTH) == cut, 1.3 * x + 0.7, x) if kind is SCORES else x
            for x, kind in zip(operands, kinds, strict=True)
        ]
        moved = np.abs(apply_op(op, changed, learned) - output).max(axis=(0, 1)) > TOLERANCE
        others = [key for key in range(LENGTH) if key != cut and moved[key]]
        require(not others, "causality: on scores it mixes keys; let `result` refuse scores, or declare REDUCES")


def _check_pairs(op: Op, operands: Arrays, learned: Learned) -> None:
    """Check that entry (i, j) depends on position i of the first operand and on position j of the second."""
    output, here = apply_op(op, operands, learned), np.arange(LENGTH)
    for at, slot in product(range(LENGTH), (0, 1)):
        moved = _moved(op, operands, learned, slot, here[:, None] == at, output)
        others = here[:, None] != at if slot == 0 else here != at
        axis = "row" if slot == 0 else "column"
        require(not (moved & others).any(), f"pairs: position {at} of operand {slot} changes more than one {axis}")


def _check_mixes(op: Op, operands: Arrays, learned: Learned) -> None:
    """Check that row i depends on row i of the scores, and on values whose score is not zero."""
    scores, values = np.tril(operands[0]), operands[1]
    output, here = apply_op(op, [scores, values], learned), np.arange(LENGTH)
    for at in range(LENGTH):
        moved = _moved(op, [scores, values], learned, 0, (here[:, None] == at) & (here <= at), output).any(axis=-1)
        require(not (moved & (here != at)).any(), f"mixing: row {at} of the scores changes another row")
        moved = _moved(op, [scores, values], learned, 1, here[:, None] == at, output).any(axis=-1)
        require(not (moved & (here < at)).any(), f"causality: position {at} changes rows that give it a score of zero")
    more = [np.concatenate([scores, 0 * scores[..., :3]], axis=-1), np.concatenate([values, values[:, :3] + 1], axis=1)]
    require(is_close(apply_op(op, more, learned), output), "mixing: positions with a score of zero change its result")


def _moved(op: Op, operands: Arrays, learned: Learned, slot: int, where: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return which entries of the output change, in any sequence of the batch, if an operand changes at `where`."""
    changed = [np.where(where, 1.3 * x + 0.7, x) if place == slot else x for place, x in enumerate(operands)]
    return (np.abs(apply_op(op, changed, learned) - before) > TOLERANCE).any(axis=0)


def check_decoding(op: Op, kinds: Sequence[Value], operands: Arrays, learned: Learned) -> None:
    """Check that the output computed a few positions at a time equals the output of all positions at once."""
    whole = apply_op(op, operands, learned)
    for size in (1, 2, 3):
        pieces = np.concatenate(list(_pieces(op, operands, learned, size)), axis=1)
        require(is_close(pieces, whole), f"decoding: {size} positions at a time give another result than all at once")


def _pieces(op: Op, operands: Arrays, learned: Learned, size: int) -> Iterator[np.ndarray]:
    """Yield the output a few positions at a time, computed from these positions and the decoding state of the row."""
    keeps_inputs = op.decode_state is DecodeState.INPUTS
    rows = {DecodeState.INPUTS: op.kernel - 1, DecodeState.OUTPUT: 1}.get(op.decode_state, 0)
    before = 0.0 if keeps_inputs else op.before_start
    kept = np.full((BATCH, rows, operands[0].shape[-1]), before)
    matrix = np.zeros((BATCH, operands[0].shape[-1], operands[0].shape[-1]))
    for start in range(0, LENGTH, size):
        new = [operand[:, start : start + size] for operand in operands]
        if op.decode_state is DecodeState.SECOND:
            new[1] = operands[1]
        if op.decode_state is DecodeState.MATRIX:
            yield op.apply(np, new, learned, None, op.kernel, before=matrix)
            matrix = matrix + np.swapaxes(new[1], -1, -2) @ new[1]
            continue
        if rows:
            new[0] = np.concatenate([kept, new[0]], axis=1)
        output = apply_op(op, new, learned)
        if rows:
            kept = (new[0] if keeps_inputs else output)[:, -rows:]
        yield output[:, rows:]
