"""The language: primitive ops, programs made of them, their canonical form, meaning and cost."""

from .canonical import build_graph
from .errors import InvalidProgramError, MalformedProgramError, PrimerSearchError, UsageError, WorkFailedError
from .graph import Graph
from .ops import OPS, Op
from .program import DNA, Instruction, Subprogram
from .program_json import dna_from_json, dna_to_json

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
