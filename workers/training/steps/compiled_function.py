"""Functions that are compiled for arrays of known shapes before their first call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax

__all__ = ["COUNTS", "CompiledFunction", "compile_function", "shapes_of"]

COUNTS = {"step_flops": "flops", "step_bytes": "bytes accessed", "step_transcendentals": "transcendentals"}
"""Names of a step's operation counts in `Evaluation`, and XLA's names of these counts."""


@dataclass(frozen=True, slots=True)
class CompiledFunction:
    """A compiled function.

    Attributes:
        run: the function in compiled form.
        shapes: shapes of its results.
        cost: operation counts before optimization, by their names in `Evaluation`, as far as XLA reports them.
    """

    run: Callable[..., Any]
    shapes: Any
    cost: Mapping[str, float]


def compile_function(
    function: Callable[..., Any], *shapes: Any, compiler_options: Mapping[str, Any] | None = None, **options: Any
) -> CompiledFunction:
    """Compile a function for arguments of these shapes.

    Args:
        function: function to compile.
        shapes: shapes and dtypes of its arguments.
        compiler_options: options of XLA.
        options: options of `jax.jit`.
    """
    lowered = jax.jit(function, **options).lower(*shapes)
    analysis: Mapping[str, Any] = lowered.cost_analysis() or {}
    cost = {name: float(analysis[key]) for name, key in COUNTS.items() if key in analysis}
    compiled = lowered.compile(None if compiler_options is None else dict(compiler_options))
    return CompiledFunction(compiled, lowered.out_info, cost)


def shapes_of(tree: Any) -> Any:
    """Return the shapes and dtypes of arrays."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)
