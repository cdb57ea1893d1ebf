"""Functional identity: two programs that compute the same function get one fingerprint.

The hash of a program's float64 outputs for random inputs and parameters. Parameters are drawn in canonical order, so
programs whose graphs differ by algebra alone meet the same draws. It catches twins that the rewrites of the canonical
form miss (the mean of x(x - mean) is the variance). After AutoML-Zero (Real et al. 2020, section 4.3).

What differs only in rare places must not pass for a twin: a draw with inputs of many sizes and large kernels reaches
saturated nonlinearities, and two with guards that bind often (`kernels.wide_guards`) tell DIVIDE(x, x) from 1. Some
true twins part there; that costs a training, where a false twin would cost a discovery
(benchmarks/results/identity.txt).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from .graph import Graph, smallest_unit
from .interpreter import evaluate_reference
from .op_arithmetic import wide_guards
from .parameters import draw_parameters
from .value_types import MODEL_WIDTH

__all__ = ["fingerprint"]

LENGTH = 6
SEQUENCES = 2
GRID = 1e-6
"""Outputs are rounded to this fraction of their root mean square: far above rounding, far below a real change."""


@dataclass(frozen=True, slots=True)
class Draw:
    """How parameters and inputs are drawn.

    Attributes:
        gain: times the kernels.
        share: of the root mean square, below which guards bind; 0 leaves them at 1e-6.
        sizes: exponents of 10 between which the sizes of positions lie.
    """

    gain: float = 1.0
    share: float = 0.0
    sizes: tuple[float, float] = (0.0, 0.0)


DRAWS = (Draw(), Draw(share=0.5, sizes=(-0.5, 0.5)), Draw(gain=2.0, share=0.7, sizes=(-1.0, 1.0)))


def fingerprint(graph: Graph) -> str | None:
    """32 hexadecimal digits, or None where an output for plain draws is not finite, which identifies nothing."""
    unit = smallest_unit(graph)
    digest = hashlib.sha256()
    for number, draw in enumerate(DRAWS):
        outputs = _outputs(graph, unit, draw, np.random.default_rng(number))
        with np.errstate(over="ignore", invalid="ignore"):
            size = float(np.sqrt(np.mean(np.square(outputs))))
        if not np.isfinite(size):
            if number == 0:
                return None
            digest.update(b"not finite")
            continue
        rounded = np.rint(outputs / (GRID * max(size, 1e-300)))
        digest.update(f"{size:.5e}".encode())
        digest.update(np.asarray(rounded + 0.0, np.float64).tobytes())  # + 0.0 makes one zero of -0.0 and 0.0
    return digest.hexdigest()[:32]


def _outputs(graph: Graph, unit: int, draw: Draw, rng: np.random.Generator) -> np.ndarray:
    x = rng.standard_normal((SEQUENCES, LENGTH, MODEL_WIDTH * unit))
    x = x * 10 ** rng.uniform(*draw.sizes, (SEQUENCES, LENGTH, 1))
    parameters = [
        {key: array * draw.gain if key == "kernel" else array for key, array in learned.items()}
        for learned in draw_parameters(graph, unit, rng, LENGTH)
    ]
    with wide_guards(draw.share):
        return evaluate_reference(graph, parameters, x)
