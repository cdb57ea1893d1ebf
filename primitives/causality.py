"""Does a program see the future? Tested on its meaning, in float64, before anything is trained.

All parameters are drawn at random, none at 0 or 1, so that no path is switched off. Then the future is
*resampled* at every position (negating it would miss even functions), and the sequence is truncated: past outputs
must not move. A program that leaks is refused, not repaired.
"""

from __future__ import annotations

import math

import numpy as np

from .errors import InvalidProgramError
from .graph import Graph
from .interpreter import evaluate_reference
from .parameters import draw_parameters
from .program import MODEL_WIDTH

__all__ = ["check_block", "probe_unit"]

LENGTH = 8
SEQUENCES = 4
TOLERANCE = 1e-9
"""Largest change of a past output, relative to the output's root mean square, that rounding explains in float64."""


def check_block(graph: Graph, seed: int = 0) -> None:
    """Refuse a block whose outputs are not finite, or depend on later positions or on the sequence's length.

    Programs that are tied to one length are checked for the future only.

    Raises:
        InvalidProgramError: with reason `finiteness` or `causality`.
    """
    rng = np.random.default_rng(seed)
    unit = probe_unit(graph)
    parameters = draw_parameters(graph, unit, rng, LENGTH)
    x = _inputs(rng, LENGTH, MODEL_WIDTH * unit)
    futures = np.repeat(x[None], LENGTH, axis=0)  # [position of the cut, sequence, length, width]
    for position in range(1, LENGTH):
        futures[position, :, position:] = _inputs(rng, LENGTH - position, MODEL_WIDTH * unit)
    outputs = evaluate_reference(graph, parameters, futures.reshape(-1, *x.shape[1:])).reshape(futures.shape)
    if not np.all(np.isfinite(outputs)):
        raise InvalidProgramError("finiteness", "with random parameters and inputs its output is not finite")
    scale = TOLERANCE * max(float(np.sqrt(np.mean(np.square(outputs)))), 1e-30)
    for position in range(1, LENGTH):
        moved = np.abs(outputs[position, :, :position] - outputs[0, :, :position]).max(axis=(0, -1))
        _refuse(moved, scale, f"when the input from position {position} on was resampled")
    if graph.length_dependent:
        return
    for length in (1, LENGTH // 2 + 1):
        shorter = evaluate_reference(graph, parameters, x[:, :length])
        moved = np.abs(shorter - outputs[0, :, :length]).max(axis=(0, -1))
        _refuse(moved, scale, f"when the sequence was cut after {length} positions")


def _inputs(rng: np.random.Generator, length: int, width: int) -> np.ndarray:
    """Normal inputs [sequence, length, width] whose size differs from position to position, up to thirtyfold.

    Were all of one size, the product of a position with itself would outweigh those with any other, and a leak
    through the sign of a sum over keys, or through their maximum, would never show.
    """
    return rng.standard_normal((SEQUENCES, length, width)) * 10 ** rng.uniform(-1.5, 0, (SEQUENCES, length, 1))


def probe_unit(graph: Graph, smallest: int = 16) -> int:
    """The smallest multiple of `smallest` channels a unit at which every width is whole."""
    denominators = [node.value.width.denominator for node in graph.nodes if node.value.width is not None]
    return math.lcm(smallest, *denominators)


def _refuse(moved: np.ndarray, scale: float, when: str) -> None:
    if np.any(~(moved <= scale)):
        position = int(np.argmax(~(moved <= scale)))
        raise InvalidProgramError(
            "causality",
            f"it sees the future: the output at position {position} changed by {moved[position]:.2g} {when}",
        )
