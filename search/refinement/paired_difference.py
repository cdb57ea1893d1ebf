"""Differences of two models on the same text, with the standard error over its windows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

__all__ = ["PairedDifference", "paired_difference"]

CERTAIN = 2.0
"""Standard errors beyond which a difference is not noise: about 95%."""


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Mean difference and its standard error.

    Attributes:
        mean: mean difference; None if it is not finite, for example because a model overflows.
        error: standard error of the mean over windows of the text; None for fewer than two windows.
    """

    mean: float | None
    error: float | None

    @property
    def beyond_noise(self) -> bool:
        """Whether the mean is further from 0 than `CERTAIN` standard errors, or not finite."""
        return self.mean is None or (self.error is not None and abs(self.mean) > CERTAIN * self.error)


def paired_difference(
    differences: Float[np.ndarray, " windows"], counts: Float[np.ndarray, " windows"] | None = None
) -> PairedDifference:
    """Return the mean difference.

    Args:
        differences: mean difference of each window, or with counts, the sum of the differences in each window.
        counts: number of tokens in each window. The result is then a mean over tokens, with the standard error of a
            ratio (Cochran, Sampling Techniques, section 6.3). None: all windows count equally.
    """
    n = len(differences)
    if counts is None:
        counts = np.ones(n)
    total = float(np.sum(counts))
    mean = float(np.sum(differences)) / total if total else math.nan
    if not math.isfinite(mean):
        return PairedDifference(None, None)
    if n < 2:
        return PairedDifference(mean, None)
    squares = float(np.sum((differences - mean * counts) ** 2))
    return PairedDifference(mean, math.sqrt(n / (n - 1) * squares) / total)
