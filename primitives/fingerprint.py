"""Functional identity: two programs that compute the same function get one fingerprint.

The hash of a program's float64 outputs for random inputs and parameters. Parameters are drawn in canonical order, so
programs whose graphs differ by algebra alone meet the same draws. It catches twins that the rewrites of the canonical
form miss (the mean of x(x - mean) is the variance), and takes for twins what differs only where no drawn input goes
(max(x, -50) is x here, and in training). After AutoML-Zero (Real et al. 2020, section 4.3).
"""

from __future__ import annotations

import hashlib

import numpy as np

from .causality import probe_unit
from .graph import Graph
from .interpreter import evaluate_reference
from .parameters import draw_parameters
from .program import MODEL_WIDTH

__all__ = ["fingerprint"]

LENGTH = 6
DRAWS = 2
GRID = 1e-6
"""Outputs are rounded to this fraction of their root mean square: far above rounding, far below a real change."""


def fingerprint(graph: Graph) -> str | None:
    """32 hexadecimal digits, or None where an output is not finite, which identifies nothing."""
    unit = probe_unit(graph)
    digest = hashlib.sha256()
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)
        x = rng.standard_normal((1, LENGTH, MODEL_WIDTH * unit))
        outputs = evaluate_reference(graph, draw_parameters(graph, unit, rng, LENGTH), x)
        with np.errstate(over="ignore", invalid="ignore"):
            size = float(np.sqrt(np.mean(np.square(outputs))))
        if not np.isfinite(size):
            return None
        rounded = np.rint(outputs / (GRID * max(size, 1e-300)))
        digest.update(f"{size:.5e}".encode())
        digest.update(np.asarray(rounded + 0.0, np.float64).tobytes())  # + 0.0 makes one zero of -0.0 and 0.0
    return digest.hexdigest()[:32]
