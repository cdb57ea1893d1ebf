"""What the norms of the hand-written blocks have in common."""

__all__ = ["NORM_EPSILON"]

NORM_EPSILON = 1e-12
"""Added to the variance: the programs divide by a deviation of at least 1e-6, and both agree above it."""
