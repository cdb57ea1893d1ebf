"""The whole check of one plugin, run in a separate process: ops on arrays and in programs, mutations, programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from ..primitives.errors import PrimerSearchError, UsageError
from ..primitives.ops.op_table import Op
from ..primitives.programs.library import LIBRARY
from .op_contract import BrokenContractError, check_arrays
from .program_contract import check_mutation, check_op_in_programs, check_program
from .registry import register
from .sources import PluginSource

__all__ = ["check_plugin"]


def check_plugin(earlier: Sequence[PluginSource], source: PluginSource) -> None:
    """Register the plugins that are already checked and a new one, and check the new one.

    Raises:
        UsageError: the new plugin breaks its contract; the message names the plugin, the part and the broken promise.
    """
    if "jax" not in sys.modules:  # code that runs only once does not need XLA's optimizations
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()
    for known in earlier:
        register(known)
    plugin = register(source).plugin
    for op in plugin.ops:
        _run(f"plugin {source.name}, op {op.name}", lambda op=op: _check_op(op))
    for name in plugin.programs:
        _run(f"plugin {source.name}, program {name}", lambda name=name: check_program(LIBRARY[name].dna))
    programs = [program.dna for program in LIBRARY.values()]
    for name, mutation in plugin.mutations.items():
        _run(f"plugin {source.name}, mutation {name}", lambda edit=mutation: check_mutation(edit, programs))


def _check_op(op: Op) -> None:
    from ..models.export.render import RESERVED

    function = op.source.partition("(")[0]
    if function in RESERVED:
        raise BrokenContractError(f"its function cannot be named {function}, which exported files use: rename it")
    check_arrays(op)
    check_op_in_programs(op)


def _run(part: str, check: Callable[[], None]) -> None:
    try:
        check()
    except BrokenContractError as error:
        raise UsageError(f"{part}: {' '.join(str(error).split())}") from error
    except PrimerSearchError as error:
        raise UsageError(f"{part}: {error}") from error
    except Exception as error:  # code of a plugin may raise anything
        raise UsageError(f"{part} fails with {type(error).__name__}: {' '.join(str(error).split())}") from error
