"""Fingerprints: programs that compute the same function get the same hash.

A fingerprint is a hash of a program's float64 outputs for random inputs and parameters, as in AutoML-Zero (Real et al.
2020, section 4.3). Parameters are drawn in canonical order, so two programs whose graphs differ only by algebra get
equal parameters. Fingerprints find equal functions that the rewrites of the canonical form miss. For example, the mean
of x (x - mean(x)) is the variance.

Programs that differ only for rare inputs must not get the same fingerprint. One draw has inputs of many sizes and large
kernels, to reach saturated nonlinearities. Two draws raise the guards, the limits that keep LOG and DIVIDE finite
(`op_arithmetic.wide_guards`), to tell DIVIDE(x, x) from 1. As a result, some programs with the same function get
different fingerprints. That costs a training, whereas equal fingerprints of different functions could cost a discovery
(benchmarks/results/identity.txt).
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
"""Outputs are rounded to this fraction of their root mean square. It is far above float64 rounding, and far below the
effect of a real change."""

LARGEST_PROBE = 10_000_000
"""Largest number of parameters of a program for which `function_identity` computes outputs."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Random distribution of parameters and inputs.

    Attributes:
        gain: factor that kernels are multiplied by.
        guard_share: guard of LOG and DIVIDE as a share of the operand's root mean square; 0 keeps the guard of 1e-6.
        sizes: range of the exponent; each position is scaled by a random power of 10.
    """

    gain: float = 1.0
    guard_share: float = 0.0
    sizes: tuple[float, float] = (0.0, 0.0)


DRAWS = (Draw(), Draw(guard_share=0.5, sizes=(-0.5, 0.5)), Draw(gain=2.0, guard_share=0.7, sizes=(-1.0, 1.0)))


def fingerprint(graph: Graph) -> str | None:
    """Return 32 hexadecimal digits, or None if an output of the first draw is not finite, which identifies nothing."""
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
    """Return the fingerprint, or the structure hash if the program is too large for a fingerprint or has none."""
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
