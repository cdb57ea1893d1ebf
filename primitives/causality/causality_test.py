"""Test of causality on random inputs, in float64; it runs after the static proof (`causality_proof`).

All parameters are random, without the neutral values 0 and 1, so that every path has an effect. For each position, the
input from there on is *resampled*: the outputs before it must not change. (Negated inputs would not show leaks through
even functions.) The sequence is also truncated: the outputs of the remaining positions must not change. A program that
leaks is rejected, not repaired.
"""

from __future__ import annotations

import numpy as np

from ..errors import InvalidProgramError
from ..graphs.graph import Graph, smallest_unit
from ..graphs.interpreter import evaluate_reference
from ..graphs.parameters import draw_parameters
from ..ops.value_types import MODEL_WIDTH
from .causality_proof import prove_causal

__all__ = ["check_causality", "probe_block"]

LENGTH = 8
SEQUENCES = 4
TOLERANCE = 1e-9
"""Largest change of a past output that float64 rounding explains, relative to the output's root mean square."""

TRUNCATION_TOLERANCE = 1e-6
"""The same for a truncated sequence; larger, because arrays of another shape are summed in another order, and because
divisions may amplify the rounding."""

ROUNDING = 1e-14
"""Relative change of the inputs, as large as a few rounding errors of float64."""

AMPLIFIED = 100
"""Largest allowed ratio of two changes of the output: by truncation, and by a change of the inputs by `ROUNDING`. It is
large, because both changes are random."""


def check_causality(graph: Graph, seed: int = 0) -> None:
    """Check that a block is provably causal and passes the test.

    Raises:
        InvalidProgramError: with reason `causality` or `finiteness`.
    """
    prove_causal(graph)
    probe_block(graph, seed)


def probe_block(graph: Graph, seed: int = 0) -> None:
    """Check that outputs are finite and do not depend on later positions or on the sequence length.

    A length-dependent program is not checked for dependence on the length.

    Raises:
        InvalidProgramError: with reason `finiteness` or `causality`.
    """
    rng = np.random.default_rng(seed)
    unit = smallest_unit(graph)
    parameters = draw_parameters(graph, unit, rng, LENGTH)
    x = _inputs(rng, LENGTH, MODEL_WIDTH * unit)
    futures = np.repeat(x[None], LENGTH, axis=0)  # [position of the cut, sequence, length, width]
    for position in range(1, LENGTH):
        futures[position, :, position:] = _inputs(rng, LENGTH - position, MODEL_WIDTH * unit)
    outputs = evaluate_reference(graph, parameters, futures.reshape(-1, *x.shape[1:])).reshape(futures.shape)
    if not np.all(np.isfinite(outputs[:, 0])):
        raise InvalidProgramError("finiteness", "its output is not finite for random parameters and inputs")
    size = _root_mean_square(outputs[0])
    change = _relative_change(outputs, outputs[0], size)
    for position in range(1, LENGTH):
        when = f"when the input from position {position} on was resampled"
        _check_limit(change[position, :position], TOLERANCE, when)
    if graph.length_dependent:
        return
    for length in (1, LENGTH // 2 + 1):
        change = _relative_change(evaluate_reference(graph, parameters, x[:, :length]), outputs[0, :, :length], size)
        if np.any(change > TRUNCATION_TOLERANCE):
            # An output that consists of rounding errors, such as a mean of centred values, depends on the array shape.
            # Such an output also changes if the inputs change by rounding errors.
            perturbed = x * (1 + ROUNDING * rng.choice((-1.0, 1.0), x.shape))
            by_rounding = _relative_change(evaluate_reference(graph, parameters, perturbed), outputs[0], size).max()
            _check_limit(
                change,
                max(TRUNCATION_TOLERANCE, AMPLIFIED * by_rounding),
                f"when the sequence was cut after {length} positions",
            )


def _inputs(rng: np.random.Generator, length: int, width: int) -> np.ndarray:
    """Return normally distributed inputs [sequence, length, width], scaled by position except in the first sequence.

    With equal sizes, the product of a position with itself would outweigh its products with all others. Then a leak
    through the sign of a sum over keys, or through the maximum over keys, would never show.
    """
    sizes = 10 ** rng.uniform(-1.5, 0, (SEQUENCES, length, 1))
    sizes[0] = 1
    return sizes * rng.standard_normal((SEQUENCES, length, width))


def _root_mean_square(outputs: np.ndarray) -> np.ndarray:
    """Return the root mean square of each sequence [sequence, 1, 1]; non-finite values count as zero."""
    finite = np.where(np.isfinite(outputs), outputs, 0)
    largest = np.maximum(np.abs(finite).max(axis=(1, 2), keepdims=True), 1e-30)
    return largest * np.sqrt(np.mean(np.square(finite / largest), axis=(1, 2), keepdims=True))


def _relative_change(changed: np.ndarray, outputs: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return the largest change at each position relative to the size of its sequence: [..., length].

    Only the first sequence must be finite; non-finite values elsewhere are ignored.

    Args:
        changed: outputs for other inputs, [..., sequence, length, width].
        outputs: outputs [sequence, length, width].
        size: root mean square of the outputs (see `_root_mean_square`).
    """
    with np.errstate(invalid="ignore"):
        difference = np.abs(changed - outputs)
    return (np.where(np.isfinite(difference), difference, 0) / np.maximum(size, 1e-30)).max(axis=(-3, -1))


def _check_limit(change: np.ndarray, limit: float, when: str) -> None:
    """Raise an error if the output at a position changed by more than the limit."""
    if np.any(change > limit):
        position = int(np.argmax(change > limit))
        raise InvalidProgramError(
            "causality",
            f"it sees the future: the output at position {position} changed by {change[position]:.2g} of its size "
            f"{when}",
        )
