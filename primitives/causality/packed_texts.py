"""Packed texts: several texts, or a text and padding, in one sequence. Each text gets the outputs that it has alone.

A text is a run of equal segment ids. `Op.packed_texts` says what an op does at the border between two texts. Pointwise
ops and matrix products do nothing there, because MASK zeroes scores between texts just as it zeroes scores of later
keys. So the static proof of causality (`causality_proof`) covers packed texts too, if "hidden" is read as "later, or of
another text". A program whose output depends on the sequence length, such as one with a maximum over all keys, is
refused, because within packed texts it would depend on the lengths of the other texts.

A mask says for each position which other positions it may read. Attention and convolutions can follow any mask. A
running sum cannot, because its value at a position contains all that its value at the position before contains.
"""

from __future__ import annotations

from typing import Any

from ..errors import UsageError
from ..graphs.decode_state import decode_plan
from ..graphs.graph import Graph
from ..graphs.interpreter import Compute, ComputeHook
from ..ops.op_table import OPS, PackedTexts
from .causality_proof import time_fault
from .prefix_mask import takes_prefix

__all__ = [
    "check_maskable",
    "check_packable",
    "compute_texts_apart",
    "mask_fault",
    "number_texts",
    "packing_fault",
    "takes_mask",
    "takes_texts",
]

Array = Any


def number_texts(xp: Any, segment_ids: Array) -> Array:
    """Return the number of the text that each position belongs to, from 0, for segment ids [batch, length].

    >>> import numpy as np
    >>> number_texts(np, np.array([[0, 0, 7, 7, 0]])).tolist()
    [[0, 0, 1, 1, 2]]
    """
    begins = segment_ids[:, 1:] != segment_ids[:, :-1]
    return xp.cumsum(xp.pad(begins, [(0, 0), (1, 0)]), axis=1)


def takes_texts(op: str) -> bool:
    """Return whether the `apply` of an op takes the argument `texts`: for each row, the number of its text."""
    return op in OPS and OPS[op].packed_texts in (PackedTexts.WINDOW, PackedTexts.RESTART, PackedTexts.MASK)


def takes_mask(op: str) -> bool:
    """Return whether the `apply` of an op takes the argument `readable`: for each row, the rows that it may read."""
    return op in OPS and OPS[op].packed_texts in (PackedTexts.WINDOW, PackedTexts.MASK)


def compute_texts_apart(graph: Graph, texts: Array = None, prefix: Array = None, readable: Array = None) -> ComputeHook:
    """Return the `compute_hook` of `evaluate` that keeps texts apart; positions of one prefix see each other.

    Args:
        graph: canonical program.
        texts: number of the text of each position [batch, length]; None: one text per sequence.
        prefix: whether a position belongs to the prefix of its text [batch, length]; None: there are no prefixes.
        readable: whether a position may read another [batch, length, length]; None: there is no mask.
    """

    def compute_hook(index: int, operands: Any, compute: Compute) -> Array:
        op = graph.nodes[index].op
        given = {"texts": texts} if texts is not None and takes_texts(op) else {}
        if prefix is not None and takes_prefix(op):
            given["prefix"] = prefix
        if readable is not None and takes_mask(op):
            given["readable"] = readable
        return compute(operands, **given)

    return compute_hook


def packing_fault(graph: Graph) -> str:
    """Return the reason why a program cannot keep packed texts apart; empty if it can."""
    for node in graph.nodes:
        if node.op in OPS and OPS[node.op].packed_texts is PackedTexts.REFUSED:
            return f"{node.op} of plugin {OPS[node.op].origin} reads earlier positions without a mask"
    return time_fault(graph)


def check_packable(graph: Graph) -> None:
    """Check that a program can keep packed texts apart.

    Raises:
        UsageError: the program cannot; the message names the op and the reason.
    """
    fault = packing_fault(graph)
    if fault:
        raise UsageError(f"segment_ids are refused for this program: {fault}; give it one text a sequence")


def mask_fault(graph: Graph) -> str:
    """Return the reason why a program cannot follow an arbitrary mask; empty if it can."""
    if fault := packing_fault(graph):
        return fault
    for node in graph.nodes:
        if node.op in OPS and OPS[node.op].packed_texts is PackedTexts.RESTART:
            return f"{node.op} at {'.'.join(node.labels)} sums up all earlier positions; give segment_ids"
    if recomputed := decode_plan(graph).recomputed_scores:
        return f"{graph.nodes[min(recomputed)].op} needs the scores of earlier queries again; give segment_ids"
    return ""


def check_maskable(graph: Graph) -> None:
    """Check that a program can follow an arbitrary mask.

    Raises:
        UsageError: the program cannot; the message names the op and the reason.
    """
    if fault := mask_fault(graph):
        raise UsageError(f"a mask is refused for this program: {fault}")
