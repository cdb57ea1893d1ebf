"""Fingerprints: programs that compute the same function get the same hash.

A fingerprint is a hash of a program's float64 outputs for random inputs and parameters, as in AutoML-Zero (Real et al.
2020, section 4.3). Parameters are drawn in canonical order, so that programs whose graphs differ by algebra only get
the same values. Fingerprints find twins that the rewrites of the canonical form miss: the mean of x(x - mean) is the
variance.

Programs that differ only for rare inputs must not get the same fingerprint. One draw has inputs of many sizes and large
kernels, to reach saturated nonlinearities; two draws raise the guards (`op_arithmetic.wide_guards`), to tell
DIVIDE(x, x) from 1. Some true twins get different fingerprints this way. That costs a training, whereas a false twin
would cost a discovery (benchmarks/results/identity.txt).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ops.op_arithmetic import wide_guards
from ..ops.value_types import MODEL_WIDTH
from .graph import Graph, smallest_unit
from .interpreter import evaluate_reference
from .parameters import ParameterSpec, draw_arrays, parameter_count, parameter_specs

__all__ = ["fingerprint", "function_identity"]

LENGTH = 6
SEQUENCES = 2
GRID = 1e-6
"""Outputs are rounded to this fraction of their root mean square: far above rounding, far below a real change."""

LARGEST_PROBE = 10_000_000
"""Most parameters of a program for which `function_identity` computes outputs."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Random distribution of parameters and inputs.

    Attributes:
        gain: factor of the kernels.
        guard_share: guard of LOG and DIVIDE as a share of the root mean square; 0 leaves it at 1e-6.
        sizes: range of the exponent of 10 that scales each position.
    """

    gain: float = 1.0
    guard_share: float = 0.0
    sizes: tuple[float, float] = (0.0, 0.0)


DRAWS = (Draw(), Draw(guard_share=0.5, sizes=(-0.5, 0.5)), Draw(gain=2.0, guard_share=0.7, sizes=(-1.0, 1.0)))


def fingerprint(graph: Graph) -> str | None:
    """Return 32 hexadecimal digits, or None if an output of the first draw is not finite: it would identify nothing."""
    unit = smallest_unit(graph)
    specs = parameter_specs(graph, unit, LENGTH)
    digest = hashlib.sha256()
    for number, draw in enumerate(DRAWS):
        outputs = _outputs(graph, specs, unit, draw, np.random.default_rng(number))
        with np.errstate(over="ignore", invalid="ignore"):
            size = float(np.sqrt(np.mean(np.square(outputs))))
        if not np.isfinite(size):
            if number == 0:
                return None
            digest.update(b"not finite")
            continue
        rounded = np.rint(outputs / (GRID * max(size, 1e-300)))
        digest.update(f"{size:.5e}".encode())
        digest.update(np.asarray(rounded + 0.0, np.float64).tobytes())  # + 0.0 turns -0.0 into 0.0
    return digest.hexdigest()[:32]


def function_identity(graph: Graph) -> str:
    """Return the fingerprint, or the structure hash of a program that is too large for one or has none."""
    if parameter_count(graph, smallest_unit(graph), LENGTH) > LARGEST_PROBE:
        return graph.structure_hash
    return fingerprint(graph) or graph.structure_hash


def _outputs(
    graph: Graph, specs: Sequence[ParameterSpec], unit: int, draw: Draw, rng: np.random.Generator
) -> np.ndarray:
    x = rng.standard_normal((SEQUENCES, LENGTH, MODEL_WIDTH * unit))
    x = x * 10 ** rng.uniform(*draw.sizes, (SEQUENCES, LENGTH, 1))
    parameters = draw_arrays(len(graph.nodes), specs, rng, draw.gain)
    with wide_guards(draw.guard_share):
        return evaluate_reference(graph, parameters, x)
