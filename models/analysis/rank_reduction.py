"""Best low-rank approximations of matrices, by an exact singular value decomposition.

Layer-selective rank reduction (Sharma et al. 2023, arXiv 2312.13558, section 3) replaces a trained matrix W [m, n] by
its best approximation of rank floor(share * min(m, n)). The squared error of the approximation is the sum of the
squares of the dropped singular values (Eckart & Young 1936). The decomposition is exact and in float64, so that results
are reproducible. In a stack of matrices [count, m, n], each matrix is reduced separately, all to the same rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

__all__ = ["Factors", "SingularValues", "decompose", "rank_at"]


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """A stack of matrices, each as a product of two factors: `u @ v`.

    Attributes:
        u: [count, m, rank].
        v: [count, rank, n].
    """

    u: np.ndarray
    v: np.ndarray

    @property
    def product(self) -> Float[np.ndarray, "count m n"]:
        """The matrices, in the dtype of the factors."""
        return self.u @ self.v

    @property
    def parameters(self) -> int:
        """Number of scalars of both factors."""
        return self.u.size + self.v.size


@dataclass(frozen=True, slots=True, eq=False)
class SingularValues:
    """Singular value decomposition of a stack of matrices: `u * values @ v`.

    Attributes:
        u: left singular vectors, [count, m, min(m, n)].
        values: singular values in descending order, [count, min(m, n)].
        v: right singular vectors, [count, min(m, n), n].
    """

    u: np.ndarray
    values: np.ndarray
    v: np.ndarray

    @property
    def largest_rank(self) -> int:
        """Largest possible rank, min(m, n)."""
        return self.values.shape[-1]

    def factors(self, rank: int) -> Factors:
        """Return the best approximation of a rank, in float64; both factors get the roots of the singular values.

        Raises:
            ValueError: the rank is below 1 or above `largest_rank`.
        """
        if not 1 <= rank <= self.largest_rank:
            raise ValueError(f"rank is {rank}, but must be from 1 to {self.largest_rank}")
        roots = np.sqrt(self.values[:, :rank])
        return Factors(self.u[:, :, :rank] * roots[:, None, :], roots[:, :, None] * self.v[:, :rank])

    def relative_error(self, rank: int) -> float:
        """Return the Frobenius norm of the approximation's error, relative to the matrices; 0 for zero matrices."""
        total = float(np.sum(self.values**2))
        return float(np.sqrt(np.sum(self.values[:, rank:] ** 2) / total)) if total else 0.0


def decompose(matrices: Float[np.ndarray, "count m n"]) -> SingularValues:
    """Return the singular value decomposition of every matrix, in float64."""
    return SingularValues(*np.linalg.svd(np.asarray(matrices, np.float64), full_matrices=False))


def rank_at(share: float, largest_rank: int) -> int:
    """Return a share of the largest rank, rounded down as in the paper, and at least 1.

    >>> rank_at(0.1, 128), rank_at(0.01, 64), rank_at(1.0, 8)
    (12, 1, 8)
    """
    return max(1, int(share * largest_rank + 1e-9))
