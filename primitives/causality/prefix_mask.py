"""Prefix language models: positions of the prefix see each other in both directions; the others see earlier positions.

MASK then also shows the later keys of a prefix to the rows of that prefix (Raffel et al. 2020, arXiv 1910.10683,
section 3.2.1). MASK is the only op that a prefix changes. Convolutions, running ops and every other op that reads
earlier positions (time dependence PAST) stay causal.

The *horizon* of a position is the last position that it may see: the end of the prefix for a position of the prefix,
the position itself for any other. Horizons never decrease along a text that begins with its prefix. The static proof of
causality (`causality_proof`) needs only this order. So it covers prefixes too, if "hidden" is read as "with a later
horizon": no position of the prefix sees what follows the prefix. The proof requires that MASK zeroes all scores by
which a product would read from a later horizon. So a block can read a prefix if the block is proved causal and its
output does not depend on the number of keys that MASK hides. A program that depends on the sequence length is refused,
because a prefix changes that number.
"""

from __future__ import annotations

from ..errors import UsageError
from ..graphs.graph import Graph
from ..ops.op_table import OPS, TimeDependence
from .causality_proof import time_fault

__all__ = ["check_prefix_capable", "prefix_fault", "takes_prefix"]


def takes_prefix(op: str) -> bool:
    """Return whether the `apply` of an op takes the argument `prefix`, which marks positions of prefixes; MASK does."""
    return op in OPS and OPS[op].time_dependence is TimeDependence.MASKS


def prefix_fault(graph: Graph) -> str:
    """Return the reason why a program cannot read a prefix in both directions; empty if it can.

    The reason is also empty for a program without MASK, which reads the prefix causally.
    """
    return time_fault(graph)


def check_prefix_capable(graph: Graph) -> None:
    """Check that a program can read a prefix in both directions.

    Raises:
        UsageError: the program cannot; the message names the op and the reason.
    """
    fault = prefix_fault(graph)
    if fault:
        raise UsageError(f"a prefix is refused for this program: {fault}; train it with the causal objective")
