"""Causality of a graph: the static proof, the numerical test, packed texts and visible prefixes."""

__all__ = [
    "causality_proof",
    "causality_test",
    "packed_texts",
    "prefix_mask",
]
