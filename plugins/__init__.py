"""Plugins: primitives, mutations and library programs from outside the package, in one Python file each.

A plugin imports what it needs from here and defines `PLUGIN`:

    from primer_search.plugins import Init, Parameter, Plugin, primitive

docs/extending.md has examples. Modules: plugin (the types), op_contract, op_time, op_arrays and program_contract (what
is checked), contract_check (the check in a separate process), sources (where plugins are found), loader and registry.
"""

from ..primitives.ops.op_table import (
    DecodeState,
    Init,
    Law,
    Op,
    OpSizes,
    Parameter,
    TimeDependence,
    WidthMatch,
    broadcast_shape,
    dimension_shape,
    mixed_shape,
    pair_shape,
    reduce_shape,
    same_shape,
)
from ..primitives.programs.assembler import replace_subprogram
from ..primitives.programs.library_texts import MULTI_DCONV_HEAD_TEXT, SQUARED_RELU_TEXT, TRANSFORMER_TEXT
from .plugin import Plugin, PluginMutation, ProgramText, primitive

__all__ = [
    "MULTI_DCONV_HEAD_TEXT",
    "SQUARED_RELU_TEXT",
    "TRANSFORMER_TEXT",
    "DecodeState",
    "Init",
    "Law",
    "Op",
    "OpSizes",
    "Parameter",
    "Plugin",
    "PluginMutation",
    "ProgramText",
    "TimeDependence",
    "WidthMatch",
    "broadcast_shape",
    "dimension_shape",
    "mixed_shape",
    "pair_shape",
    "primitive",
    "reduce_shape",
    "replace_subprogram",
    "same_shape",
]
