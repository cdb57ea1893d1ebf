"""The program language: primitive ops, programs, canonical form, proofs of causality, cost and difference. No I/O.

Imports go one way: errors, suggestions <- ops <- programs <- graphs <- causality, differences.
"""

from .errors import InvalidProgramError, MalformedProgramError, PrimerSearchError, UsageError, WorkFailedError
from .graphs.canonical import build_graph
from .graphs.graph import Graph
from .ops.op_table import OPS, Op
from .programs.program import DNA, Instruction, Subprogram
from .programs.program_json import dna_from_json, dna_to_json

__all__ = [
    "DNA",
    "OPS",
    "Graph",
    "Instruction",
    "InvalidProgramError",
    "MalformedProgramError",
    "Op",
    "PrimerSearchError",
    "Subprogram",
    "UsageError",
    "WorkFailedError",
    "build_graph",
    "dna_from_json",
    "dna_to_json",
]
