"""Prefix language models: the positions of a prefix see each other in both directions; all others see earlier ones.

MASK then also shows the later keys of a prefix to the rows of that prefix (Raffel et al. 2020, arXiv 1910.10683,
section 3.2.1). It is the only op that the prefix changes. Convolutions, running ops and every other op that reads
earlier positions (time dependence PAST) stay causal.

Call the *horizon* of a position the last position that it may see: the end of the prefix for a position of the prefix,
itself for any other. Horizons never decrease along a text that begins with its prefix. The static proof of causality
(`causality_proof`) needs this order only, so it covers prefixes, read as "hidden: of a later horizon": no position of
the prefix sees what follows it. The proof demands that MASK zeroes whatever a product would bring from a later horizon.
A block can therefore read a prefix if it is proved causal, and its output does not depend on the number of keys that
MASK hides. A program that depends on the sequence length is refused, because a prefix changes that number.
"""

from __future__ import annotations

from ..errors import UsageError
from ..graphs.graph import Graph
from ..ops.op_table import OPS, TimeDependence
from .causality_proof import time_fault

__all__ = ["check_prefix_capable", "prefix_fault", "takes_prefix"]


def takes_prefix(op: str) -> bool:
    """Return whether the `apply` of an op takes `prefix`, which tells the positions of prefixes: MASK does."""
    return op in OPS and OPS[op].time_dependence is TimeDependence.MASKS


def prefix_fault(graph: Graph) -> str:
    """Return the reason why a program cannot read a prefix in both directions; empty if it can.

    A program without MASK can: it reads the prefix causally.
    """
    return time_fault(graph)


def check_prefix_capable(graph: Graph) -> None:
    """Check that a program can read a prefix in both directions.

    Raises:
        UsageError: it cannot; names the op and the reason.
    """
    fault = prefix_fault(graph)
    if fault:
        raise UsageError(f"a prefix is refused for this program: {fault}; train it with the causal objective")
