"""The program language: primitive ops, programs, canonical form, proofs of causality, cost and difference. No I/O.

Ops: op, ops, extended_ops, op_arithmetic, least_squares, op_formats, value_types. Programs: program, program_json,
validation, liveness, assembler, library, library_texts, pretty_printer. Graphs: canonical, rewrites, graph, parameters,
interpreter, fingerprint, cost, line_costs, decode_state, softmax_patterns, idioms, query_scales. Causality:
causality_proof, causality_test, packed_texts, prefix_mask. Differences: instruction_alignment, program_alignment,
program_diff, essential_changes, change_descriptions, diff_printer, null_rewrite. Errors: errors, suggestions.
"""

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
