"""The library for people: what each named program is, and what it costs at the paper's size."""

from __future__ import annotations

from .canonical import build_graph
from .cost import block_cost, model_parameters
from .library import LIBRARY

__all__ = ["library_markdown"]

PAPER_LAYERS, PAPER_LENGTH, PAPER_VOCABULARY = 6, 64, 32_768
"""The paper's language model (section 3): 6 layers, sequences of 64, an embedding of 32K tokens."""


def library_markdown() -> str:
    """The library table of the README."""
    rows = ["| program | what it is | parameters | FLOPs a token and block |", "|---|---|--:|--:|"]
    for name, program in LIBRARY.items():
        unit = program.native_unit
        cost = block_cost(build_graph(program.dna), unit, PAPER_LENGTH)
        parameters = model_parameters(cost.parameters, unit, PAPER_LAYERS, PAPER_VOCABULARY)
        flops = f"{cost.flops_per_token / 1e6:.2f} M"
        rows.append(f"| `{name}` | {program.description} ({program.reference}) | {parameters:,} | {flops} |")
    return "\n".join(rows)
